"""Works a sweep off, each run a process of its own: one that fails leaves the others alone."""

import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..signals import Signals, load_signals
from ..signals.plots import plot_signals
from ..train.folders import RunFolder, find_run
from .exit_codes import FINISHED, INTERRUPTED, STOPPED, UNEXPECTED
from .stopping import SIGNALS
from .sweep_file import Sweep, SweepJob
from .sweep_state import folders_of, state_of

ENDINGS = {
    FINISHED: "finished",
    STOPPED: "stopped early, its LoRA is kept",
    INTERRUPTED: "interrupted",
}
"""Exit code of a run -> what is said of it."""

NOT_BEGUN = "not begun"


def commands_of(sweep: Sweep, launcher: Sequence[str]) -> Iterator[list[str]]:
    """Yield the command line of each run that is not finished.

    Args:
        sweep: The runs.
        launcher: Words in front, such as ``accelerate launch``; none: this Python.

    Raises:
        ValueError: If a run was begun with other values.
    """
    for job in sweep.jobs:
        if state_of(job) != "finished":
            yield [*(launcher or [sys.executable]), "-m", "trustopt", *arguments_of(sweep, job)]


def arguments_of(sweep: Sweep, job: SweepJob) -> list[str]:
    """Return what ``trustopt`` is given to train one run."""
    return ["sweep", str(sweep.path), "--index", str(job.number)]


def work_off(sweep: Sweep) -> int:
    """Train all runs that are not finished, one after the other, and return the exit code.

    Ctrl-C ends the run under way as it ends ``trustopt train``, and begins no other.

    Returns:
        0 if all are finished or ended by their optimizer, 3 if the user stopped, 1 if any failed.

    Raises:
        ValueError: If a run was begun with other values, before any begins.
    """
    states = {job.number: state_of(job) for job in sweep.jobs}
    codes: dict[int, int] = {}
    with Relay() as relay:
        for job in sweep.jobs:
            if states[job.number] == "finished":
                print(f"run {job.number} of {len(sweep.jobs)}, {job.name}: finished already")
                codes[job.number] = FINISHED
            elif not relay.asked:
                print(f"run {job.number} of {len(sweep.jobs)}, {job.name}", flush=True)
                codes[job.number] = relay.run(_command, arguments_of(sweep, job))
                print(flush=True)
    print(report(sweep, codes))
    picture = draw_losses(sweep)
    if picture is not None:
        print(f"all losses: {picture}")
    failed = any(code not in ENDINGS for code in codes.values())
    stopped = relay.asked or INTERRUPTED in codes.values()
    return UNEXPECTED if failed else STOPPED if stopped else FINISHED


def _command(arguments: list[str]) -> None:
    """Be the program with these arguments, in a process of its own."""
    from .main import main

    sys.exit(main(arguments))


class Relay:
    """Runs processes and hands a SIGTERM on to them; a terminal's Ctrl-C reaches them by itself.

    Attributes:
        asked: Whether the user, or a scheduler, asked to stop.
    """

    def __init__(self) -> None:
        self.asked = False
        self._child: Any = None
        self._previous: list = []

    def __enter__(self) -> "Relay":
        self._previous = [(name, signal.signal(name, self._receive)) for name in SIGNALS]
        return self

    def __exit__(self, *_: object) -> None:
        for name, handler in self._previous:
            signal.signal(name, handler)

    def run(self, target: Callable[..., None], *arguments: Any) -> int:
        """Call a function in a new process; return its exit code, below 0 if a signal ended it."""
        # Not forked: a process that has used a GPU cannot be.
        child = multiprocessing.get_context("spawn").Process(target=target, args=arguments)
        child.start()
        self._child = child
        try:
            child.join()
        finally:
            self._child = None
        assert child.exitcode is not None, "it has been joined"
        return child.exitcode

    def _receive(self, number: int, _frame: object) -> None:
        self.asked = True
        if self._child is not None and number == signal.SIGTERM:
            self._child.terminate()


def report(sweep: Sweep, codes: dict[int, int]) -> str:
    """Return how each run ended, one a line."""
    lines = []
    for job in sweep.jobs:
        code = codes.get(job.number)
        words = NOT_BEGUN if code is None else ENDINGS.get(code, f"failed, exit code {code}")
        lines.append(f"{job.number:>4}  {job.name:<{sweep.widest_name}}  {words}")
    done = sum(code == FINISHED for code in codes.values())
    return "\n".join([f"{done} of {len(sweep.jobs)} runs finished", *lines])


def draw_losses(sweep: Sweep) -> Path | None:
    """Draw the signals of all runs there are in one picture, beside the sweep file."""
    found = [signals for job in sweep.jobs if (signals := signals_of(job)) is not None]
    if not found:
        return None
    place = sweep.path.with_suffix(".png")
    Image.fromarray(plot_signals(found, series=["loss", "lr"])).save(place, optimize=True)
    return place


def signals_of(job: SweepJob) -> Signals | None:
    """Return the signals of a run's newest try, if it has a saved state."""
    run: RunFolder | None = find_run(folders_of(job.file), job.name)
    return None if run is None or not run.signals.exists() else load_signals(run.signals)
