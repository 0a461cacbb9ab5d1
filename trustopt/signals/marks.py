"""What happened besides the curves: saves, resumes, skipped steps, the wish to stop."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .table import Signals
from .theme import Color, Theme

STOP = "should_stop"
"""Event, and last part of the series, by which an optimizer says that the loss has settled."""

WORDS = {"resume": "resumed", "stop": "stopped"}
"""Events written in other words than their names."""

ELSEWHERE = ("save", "sample", STOP)
"""Events that are too frequent for a line over the full height, or have one of their own."""


@dataclass(frozen=True, kw_only=True)
class Marks:
    """Positions in steps."""

    lines: Sequence[tuple[int, str, Color]] = ()
    """Dashed lines over the full height with a word: resume, should_stop."""
    saves: Sequence[int] = ()
    skipped: Sequence[int] = ()
    flag: tuple[np.ndarray, np.ndarray] | None = None
    """Steps and a 0/1 series, tinted where it is set: should_stop."""


def marks_of(run: Signals, theme: Theme) -> Marks:
    """Collect the marks of one run."""
    lines: list[tuple[int, str, Color]] = [
        (event.step, WORDS.get(event.name, event.name), theme.muted)
        for event in run.events
        if event.name not in ELSEWHERE
    ]
    flag = _stop_series(run)
    stop = first_stop(run)
    if stop is not None:
        lines.append((stop, STOP, theme.alert))
    return Marks(
        lines=lines,
        saves=[event.step for event in run.events if event.name == "save"],
        skipped=[int(step) for step in run.steps[run.series("skipped") > 0.0]],
        flag=None if flag is None else (run.steps, run.series(flag)),
    )


def stops_of(runs: Sequence[Signals], theme: Theme) -> Marks:
    """Collect, of several runs, only where each wanted to stop, in its colour."""
    palette = theme.series
    stops = [(index, first_stop(run)) for index, run in enumerate(runs)]
    return Marks(
        lines=[
            (step, STOP, palette[index % len(palette)]) for index, step in stops if step is not None
        ]
    )


def first_stop(run: Signals) -> int | None:
    """Return the step at which the optimizer first asked to stop, None if it never did."""
    asked = [event.step for event in run.events if event.name == STOP]
    name = _stop_series(run)
    if name is not None:
        asked += run.steps[run.series(name) > 0.5][:1].tolist()
    return min(asked, default=None)


def _stop_series(run: Signals) -> str | None:
    return next((name for name in run.names if name.endswith(STOP)), None)
