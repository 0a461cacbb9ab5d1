"""What happened besides the curves: saves, resumes, skipped steps, the wish to stop."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .table import Signals
from .theme import Color, Theme

WORDS = {"resume": "resumed", "stop": "stopped"}
"""Events written in other words than their names."""

UNMARKED = ("save", "sample")
"""Events too frequent for a line over the full height."""


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
        if event.name not in UNMARKED
    ]
    flag = _stop_series(run)
    stop = first_stop(run)
    if stop is not None:
        lines.append((stop, "should_stop", theme.alert))
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
            (step, "should_stop", palette[index % len(palette)])
            for index, step in stops
            if step is not None
        ]
    )


def first_stop(run: Signals) -> int | None:
    """Return the step at which the optimizer first asked to stop, None if it never did."""
    name = _stop_series(run)
    if name is None:
        return None
    fired = np.flatnonzero(run.series(name) > 0.5)
    return int(run.steps[fired[0]]) if len(fired) else None


def _stop_series(run: Signals) -> str | None:
    return next((name for name in run.names if name.endswith("should_stop")), None)
