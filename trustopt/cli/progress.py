"""What a terminal shows while a run goes: a bar where there is a terminal, else plain lines."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Protocol

from ..train.loop import StepReport
from .meter import Meter

LINES_PER_STAGE, LINES_PER_RUN = 2, 20
"""Plain lines that a stage before training, and the training, leave in a log."""


class Display(Protocol):
    """Where progress is shown."""

    def say(self, text: str) -> None:
        """Show text that stays."""
        ...

    def stage(self, what: str, done: int, total: int) -> None:
        """Show how far something before training is."""
        ...

    def begin(self, step: int, steps: int) -> None:
        """Show that training begins after ``step`` steps."""
        ...

    def step(self, report: StepReport) -> None:
        """Show one step."""
        ...


@contextmanager
def open_display() -> Iterator[Display]:
    """Show progress for the time of a ``with`` block, the way stdout can show it."""
    if sys.stdout.isatty() and find_spec("rich"):
        bars = Bars()
        with bars.bars:
            yield bars
    else:
        yield Lines()


class Lines:
    """Plain lines: for logs, pipes and terminals without the package rich."""

    def __init__(self) -> None:
        self._meter = Meter(1)

    def say(self, text: str) -> None:
        """Print the text."""
        print(text, flush=True)

    def stage(self, what: str, done: int, total: int) -> None:
        """Print a line when half is done, and all."""
        if is_due(done, total, LINES_PER_STAGE):
            self.say(f"{what} {done}/{total}")

    def begin(self, step: int, steps: int) -> None:
        """Start to measure."""
        self._meter = Meter(steps)

    def step(self, report: StepReport) -> None:
        """Print a line at the first step and when a twentieth more is done."""
        self._meter.update(report)
        steps = self._meter.steps
        if report.step == 1 or is_due(report.step, steps, LINES_PER_RUN):
            self.say(f"step {report.step:>{len(str(steps))}}/{steps}  {self._meter.text()}")


def is_due(done: int, total: int, lines: int) -> bool:
    """Return whether the next of so many even parts has just been done."""
    return done * lines // total > (done - 1) * lines // total


class Bars:
    """A bar a stage and one for training, drawn by rich."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=8),  # leaves room for the figures in 80 columns
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
        )
        self._tasks: dict[str, Any] = {}
        self._meter = Meter(1)

    def say(self, text: str) -> None:
        """Print above the bars."""
        self.bars.console.print(text, markup=False, highlight=False)

    def stage(self, what: str, done: int, total: int) -> None:
        """Move the stage's bar."""
        self.bars.update(self._task(what, total), completed=done)

    def begin(self, step: int, steps: int) -> None:
        """Put the bar of the training in place of those before it."""
        for task in self._tasks.values():
            self.bars.update(task, visible=False)
        self._meter = Meter(steps)
        self.bars.update(self._task("training", steps), completed=step)

    def step(self, report: StepReport) -> None:
        """Move the training's bar."""
        self._meter.update(report)
        task = self._task("training", self._meter.steps)
        self.bars.update(task, completed=report.step, figures=self._meter.text())

    def _task(self, what: str, total: int) -> Any:
        if what not in self._tasks:
            self._tasks[what] = self.bars.add_task(what, total=total, figures="")
        return self._tasks[what]
