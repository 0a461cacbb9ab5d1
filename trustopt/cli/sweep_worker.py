"""Works a sweep off, each run a process of its own: one that fails leaves the others alone."""

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from ..signals import Signals, load_signals
from ..signals.plots import plot_signals
from ..train.folders import RunFolder, find_run
from .exit_codes import FINISHED, INTERRUPTED, STOPPED, UNEXPECTED
from .stopping import SIGNALS
from .sweep_file import Sweep, SweepJob
from .sweep_state import folders_of, state_of, write_down

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
            yield command_of(sweep, job, launcher)


def command_of(sweep: Sweep, job: SweepJob, launcher: Sequence[str]) -> list[str]:
    """Return the words that train one run."""
    start = list(launcher) or [sys.executable]
    return [*start, "-m", "trustopt", "sweep", str(sweep.path), "--index", str(job.number)]


def work_off(sweep: Sweep, launcher: Sequence[str]) -> int:
    """Train all runs that are not finished, one after the other, and return the exit code.

    Ctrl-C ends the run under way as it ends ``trustopt train``, and begins no other.

    Args:
        sweep: The runs.
        launcher: As for ``commands_of``.

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
                write_down(job)
                codes[job.number] = relay.run(command_of(sweep, job, launcher))
                print(flush=True)
    print(report(sweep, codes))
    picture = draw_losses(sweep)
    if picture is not None:
        print(f"all losses: {picture}")
    failed = any(code not in ENDINGS for code in codes.values())
    stopped = relay.asked or INTERRUPTED in codes.values()
    return UNEXPECTED if failed else STOPPED if stopped else FINISHED


class Relay:
    """Runs processes and hands a SIGTERM on to them; a terminal's Ctrl-C reaches them by itself.

    Attributes:
        asked: Whether the user, or a scheduler, asked to stop.
    """

    def __init__(self) -> None:
        self.asked = False
        self._child: subprocess.Popen | None = None
        self._previous: list = []

    def __enter__(self) -> "Relay":
        self._previous = [(name, signal.signal(name, self._receive)) for name in SIGNALS]
        return self

    def __exit__(self, *_: object) -> None:
        for name, handler in self._previous:
            signal.signal(name, handler)

    def run(self, command: Sequence[str]) -> int:
        """Run a process to its end and return its exit code.

        Raises:
            ValueError: If there is no such program.
        """
        try:
            self._child = subprocess.Popen(command)
        except OSError as error:
            raise ValueError(
                f"--launch {command[0]} cannot be started ({error.strerror}): give a launcher that "
                "is installed, such as torchrun or 'accelerate launch'"
            ) from error
        try:
            return self._child.wait()
        finally:
            self._child = None

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
