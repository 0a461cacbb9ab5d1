"""What a run's columns say in a line: for headings, tables and run lists."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .condense import block_size, moving_average
from .smoothing import auto_beta
from .table import Signals
from .ticks import format_value


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The figures of a run; NaN where it did not record them."""

    num_steps: int
    """Newest step."""
    loss: float
    """Newest smoothed loss."""
    val_loss: float
    """Lowest validation loss."""
    val_step: int
    """Step of the lowest validation loss, 0 if there is none."""
    seconds_per_step: float
    """Median (of a sample, on long runs)."""
    num_skipped: int
    """Steps whose loss or gradient was not finite."""


def summarize(signals: Signals) -> Summary:
    """Return the figures of a run."""
    loss = signals.series("loss")
    beta = auto_beta(int(np.isfinite(loss).sum()))
    smoothed = moving_average(signals.steps, loss, beta)[1]
    smoothed = smoothed[np.isfinite(smoothed)]
    val = signals.series("val/loss")
    # A sample is as good as all of a million steps, and their median would take longer to find.
    seconds = signals.series("seconds")[:: block_size(len(signals))]
    best = int(np.nanargmin(val)) if np.isfinite(val).any() else -1
    return Summary(
        num_steps=int(signals.steps[-1]) if len(signals) else 0,
        loss=float(smoothed[-1]) if len(smoothed) else float("nan"),
        val_loss=float(val[best]) if best >= 0 else float("nan"),
        val_step=int(signals.steps[best]) if best >= 0 else 0,
        seconds_per_step=float(np.nanmedian(seconds)) if np.isfinite(seconds).any() else np.nan,
        num_skipped=int(np.nansum(signals.series("skipped") > 0.0)),
    )


def describe(signals: Signals) -> str:
    """Write a run's summary in a line, leaving out what it did not record."""
    summary = summarize(signals)
    parts = [f"{summary.num_steps:,} steps"]
    if np.isfinite(summary.loss):
        parts.append(f"loss {format_value(summary.loss)}")
    if np.isfinite(summary.val_loss):
        best = format_value(summary.val_loss)
        parts.append(f"best validation {best} at step {summary.val_step:,}")
    if np.isfinite(summary.seconds_per_step):
        parts.append(f"{format_value(summary.seconds_per_step)} s/step")
    if summary.num_skipped:
        parts.append(f"{summary.num_skipped:,} skipped")
    return " · ".join(parts)


def unique_names(names: Sequence[str]) -> list[str]:
    """Number runs of one name, so that a legend can tell them apart: ``a``, ``a (2)``."""
    taken: set[str] = set()
    result = []
    for name in names:
        base = unique = name or "run"
        number = 2
        while unique in taken:
            unique, number = f"{base} ({number})", number + 1
        taken.add(unique)
        result.append(unique)
    return result
