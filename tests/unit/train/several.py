"""Several processes that train together, on this machine: ``Launcher`` starts them and waits.

A server that has imported everything forks each, so that they start in no time.
"""

import errno
import multiprocessing
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import peft  # noqa: F401  (what a training imports first of all, and slowly)
import torch
from toy import HalfToyHost, images, job

from trustopt.train import run
from trustopt.train.folders import Folders
from trustopt.train.follow import follow_job
from trustopt.train.hooks import Hooks
from trustopt.train.job import Job
from trustopt.train.loop import StopTraining
from trustopt.train.processes import launched_processes

HERE = Path(__file__).parent
PATIENCE = 300.0
"""Seconds after which processes that should have ended are taken to hang."""


@dataclass(frozen=True)
class Ended:
    """How one process ended."""

    exit_code: int | None
    """None if it hung and was killed."""
    result: object = None
    """What its function returned; None if it raised or was killed."""
    error: str = ""
    """Type and message of what it raised."""


class Launcher:
    """What torchrun does, for functions: one process a rank."""

    def __init__(self) -> None:
        os.environ["PYTHONPATH"] = os.pathsep.join(
            [str(HERE), str(HERE.parents[2]), os.environ.get("PYTHONPATH", "")]
        )
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["several"])

    def run(self, count: int, function, *arguments) -> list[Ended]:
        """Call ``function(ranks, *arguments)`` in processes that know each other."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        started = []
        for rank in range(count):
            hears, tells = self._context.Pipe(duplex=False)
            process = self._context.Process(
                target=_one, args=(rank, count, port, tells, function, arguments)
            )
            process.start()
            tells.close()
            started.append((process, hears))
        deadline = time.monotonic() + PATIENCE
        return [_ending(process, hears, deadline) for process, hears in started]


def _ending(process, hears, deadline: float) -> Ended:
    told = ("", None)
    try:
        if hears.poll(max(0.0, deadline - time.monotonic())):
            told = hears.recv()
    except EOFError:
        pass  # killed
    process.join(max(0.0, deadline - time.monotonic()))
    if process.exitcode is None:
        process.kill()
        process.join()
        return Ended(None)
    return Ended(process.exitcode, told[1], told[0])


def _one(rank: int, count: int, port: int, tells, function, arguments) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    try:
        with launched_processes() as ranks:
            result = function(ranks, *arguments)
    except BaseException as error:  # noqa: BLE001  (the test reads it)
        tells.send((f"{type(error).__name__}: {error}", None))
        sys.exit(1)
    tells.send(("", result))


def toy_job(
    folder: Path,
    *,
    half: bool = False,
    cache: bool = False,
    regularisation: bool = False,
    **settings,
) -> Job:
    """A job of ``toy.job`` with what only some tests want."""
    made = job(folder, host=HalfToyHost() if half else None, **settings)
    if cache:
        made.folders = Folders(loras=folder / "loras", runs=folder / "runs", cache=folder / "cache")
    if regularisation:
        made.images = made.images.with_regularisation(images(3))
    return made


def train(ranks, folder: Path, settings: dict, hitches: dict | None = None) -> dict:
    """Train a toy job as one of several processes.

    Args:
        ranks: The processes.
        folder: Of the run.
        settings: Of ``toy_job``.
        hitches: Rank -> function that prepares what goes wrong there.
    """
    made = toy_job(folder, **settings)
    made.ranks = ranks
    if hitches and ranks.rank in hitches:
        hitches[ranks.rank](made)
    status = run.run_job(made).status if ranks.is_first else follow_job(made)
    host = made.host
    return {
        "status": status,
        "passes": len(host.calls),
        "images encoded": host.images_encoded,
        "captions encoded": list(host.encoded),
    }


def killed_in_step_7(made: Job) -> None:
    """Kill this process in the middle of a step."""
    _when_called(made, 6, lambda: os.kill(os.getpid(), signal.SIGKILL))


def fails_in_step_7(made: Job) -> None:
    """Run out of memory in the middle of a step."""
    made.host.break_at, made.host.error = 6, torch.OutOfMemoryError("no memory here")


def overflows_in_steps_4_and_5(made: Job) -> None:
    """Have losses that are not finite."""
    made.host.overflow = {3, 4}


def stops_in_step_5(made: Job) -> None:
    """Ask to stop, as the user does."""

    def on_step(report, recorder) -> None:
        if report.step == 5:
            raise StopTraining("enough")

    made.hooks = Hooks(on_step=on_step)


def has_no_disk(made: Job) -> None:
    """Have an output folder that nothing can be written to."""
    file = made.folders.runs.parent / "a file"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("no folder")
    made.folders = Folders(loras=file, runs=made.folders.runs)


def disk_fills_at_the_end(made: Job) -> None:
    """Fail to write the finished LoRA; ours is a process of its own, which nobody else sees."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run.save_and_try = full


def _when_called(made: Job, number: int, do) -> None:
    prepare = made.host.prepare

    def instead(*arguments):
        if len(made.host.calls) == number:
            do()
        return prepare(*arguments)

    made.host.prepare = instead
