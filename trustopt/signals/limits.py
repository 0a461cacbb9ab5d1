"""How far the axes reach."""

from collections.abc import Sequence

import numpy as np

from .panels import Panel
from .table import Signals
from .ticks import LARGEST, nice_range


def step_range(runs: Sequence[Signals]) -> tuple[float, float]:
    """Return the x range: all steps of all runs (one at least), from 0 if training began at 1."""
    ends = [(int(run.steps[0]), int(run.steps[-1])) for run in runs if len(run)]
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    if low == high:
        return low - 1.0, high + 1.0
    if low == 1:
        low = 0
    return float(low), high + 0.01 * (high - low)


def y_limits(panel: Panel) -> tuple[float, float]:
    """Return the y range of a panel.

    Bounded signals keep the fixed range they are defined on, so that two pictures compare. A loss
    or norm follows all but its extremes (0.5 % at either end): one spike must not press the curve
    flat, it is seen leaving the axes.
    """
    if panel.kind == "bounded":
        lowest = min(np.nanmin(curve.bold[1]) for curve in panel.curves)
        return (-1.05, 1.05) if lowest < 0.0 else (-0.02, 1.05)
    spiky = panel.kind in ("loss", "norm")
    lines = [(curve.bold[1], 0.5 if spiky else 0.0) for curve in panel.curves]
    lines += [(curve.raw[1], 0.5) for curve in panel.curves if curve.smooth is not None]
    if panel.log:
        lines = [(values[values > 0.0], percent) for values, percent in lines]
    parts = [_central(values, percent) for values, percent in lines]
    values = np.clip(np.concatenate(parts), -LARGEST, LARGEST)
    if panel.log:
        return _log_limits(values)
    low, high = nice_range(values)
    if values.min() >= 0.0 and (panel.kind == "lr" or low < 0.0):
        low = 0.0
    return low, high


def _log_limits(values: np.ndarray) -> tuple[float, float]:
    low, high = np.log10(np.clip([values.min(), values.max()], 1.0 / LARGEST, LARGEST))
    pad = max(0.06 * (high - low), 0.05)
    return float(10.0 ** max(low - pad, -307.0)), float(10.0 ** min(high + pad, 307.0))


def _central(values: np.ndarray, percent: float) -> np.ndarray:
    """Return the finite values without ``percent`` at either end, as their two extremes."""
    present = values[np.isfinite(values)]
    if len(present) == 0:
        return present
    if percent == 0.0 or len(present) < 50.0 / percent:
        return np.array([present.min(), present.max()])
    return np.percentile(present, [percent, 100.0 - percent])
