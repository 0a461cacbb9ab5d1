"""Which series share axes, and how each is to be drawn: decisions, no pixels.

One run: series of one kind together (loss; learning rate; norms; the optimizer's own signals).
Several runs: one panel a series, because there the colours tell the runs apart.
"""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from .condense import block_extremes, block_size, moving_average
from .smoothing import GENTLE, STRONG, auto_beta, is_noisy
from .table import Signals

Kind = Literal["loss", "lr", "bounded", "norm", "memory", "other"]

HIDDEN = ("epoch", "seconds", "skipped", "loss_bin/*", "*should_stop", "*num_skipped")
"""Bookkeeping and flags: drawn only when asked for by name (flags become marks)."""

HIDDEN_AMONG_RUNS = (*HIDDEN, "opt/ema_*")
"""Of several runs, an optimizer's own loss averages would repeat the loss panel by panel."""

TITLES = {
    "loss": "Loss",
    "loss_level_free": "Loss, noise levels divided out",
    "val/loss": "Validation loss",
    "lr": "Learning rate",
    "grad_norm": "Gradient norm",
    "opt/update_norm": "Update norm",
    "opt/lr_effective": "Effective learning rate",
    "seconds": "Time per step",
}
UNITS = {"seconds": "seconds", "grad_norm": "L2", "opt/update_norm": "L2"}
GROUP_TITLES: dict[Kind, tuple[str, str]] = {
    "loss": ("Loss", ""),
    "lr": ("Learning rate", ""),
    "bounded": ("Optimizer signals", ""),
    "norm": ("Norms", "L2"),
    "memory": ("Loss averages of the optimizer", ""),
    "other": ("Other optimizer signals", ""),
}
BOUNDED = (
    "confidence", "confidence_rank", "confidence_stability", "danger", "trust", "mask", "mask_ema",
    "flip", "flip_ema", "threshold", "scalar", "drive", "damping", "shadow",
)  # fmt: skip
"""Signals within [-1, 1] by definition, in drawing order; others join them by their values."""

TELLING = ("confidence", "danger", "trust", "mask_ema", "flip_ema", "scalar", "drive")
"""Signals chosen for a small picture."""

MAX_RAW_CURVES, MAX_RAW_RUNS = 4, 2
"""Averaged curves (of one run, or one each of several) up to which raw values are drawn, too."""

MAX_MARKERS = 120
"""Values of a sparse series up to which each gets a dot."""

VISIBLE_SHARE = 0.05
"""A series that never reaches this would be a flat line on an axis from 0 to 1."""


Points = tuple[np.ndarray, np.ndarray]
"""Steps and values, ``(N,)`` each."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Curve:
    """One line of a panel."""

    name: str
    """Series."""
    label: str
    """Legend."""
    raw: Points
    smooth: Points | None = None
    """The average, drawn bold over the faint raw values; None draws the raw ones bold."""
    color_index: int = 0
    markers: bool = False
    """A dot at every value: sparse series."""

    @property
    def bold(self) -> Points:
        """The line that matters."""
        return self.raw if self.smooth is None else self.smooth


@dataclass(frozen=True, eq=False, kw_only=True)
class Panel:
    """Curves that share axes."""

    kind: Kind
    title: str
    unit: str = ""
    curves: list[Curve] = field(default_factory=list)
    log: bool = False
    overlays_runs: bool = False
    """The curves are one series of several runs."""

    @property
    def shows_raw(self) -> bool:
        """Raw values are drawn behind averages, but not of so many that they hide each other."""
        most = MAX_RAW_RUNS if self.overlays_runs else MAX_RAW_CURVES
        return sum(curve.smooth is not None for curve in self.curves) <= most


def select(
    signals: Signals, patterns: Sequence[str] | None, hidden: Sequence[str] = HIDDEN
) -> list[str]:
    """Return the series to draw: those named (wildcards as in file names), else all but hidden."""
    present = [name for name in signals.names if np.isfinite(signals.series(name)).any()]
    if patterns is None:
        return [name for name in present if not _matches(name, hidden)]
    return [name for name in present if _matches(name, patterns)]


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def kind_of(name: str, values: np.ndarray) -> Kind:
    """Tell which axes a series belongs on, by its name and, for an optimizer's own, its values."""
    short = name.removeprefix("opt/")
    if name in ("loss", "loss_level_free") or name.startswith("val/"):
        return "loss"
    if "norm" in short:
        return "norm"
    if short == "lr" or short.startswith(("lr/", "lr_")):
        return "lr"
    if short.startswith("ema_"):
        return "memory"
    present = np.abs(values[np.isfinite(values)])
    largest = float(present.max()) if len(present) else 0.0
    if largest <= 1.0 + 1e-6 and (short in BOUNDED or largest >= VISIBLE_SHARE):
        return "bounded"
    return "other"


def single_run_panels(
    signals: Signals, names: Sequence[str], *, smoothing: float | None, log_loss: bool
) -> list[Panel]:
    """Group one run's series into panels, in the order of ``GROUP_TITLES``."""
    groups: dict[Kind, list[Curve]] = {kind: [] for kind in GROUP_TITLES}
    for name in sorted(names, key=_drawing_order):
        kind, curve = make_curve(signals, name, _short(name), smoothing)
        groups[kind].append(replace(curve, color_index=len(groups[kind])))
    panels = []
    for kind, curves in groups.items():
        if not curves:
            continue
        title, unit = GROUP_TITLES[kind]
        if len(curves) == 1 and curves[0].name in TITLES:
            title, unit = TITLES[curves[0].name], UNITS.get(curves[0].name, "")
        panels.append(_panel(kind, title, unit, curves, log_loss))
    return panels


def compare_panels(
    runs: Sequence[Signals],
    labels: Sequence[str],
    names: Sequence[str],
    *,
    smoothing: float | None,
    log_loss: bool,
) -> list[Panel]:
    """Make one panel a series, with every run that recorded it."""
    panels = []
    for name in sorted(names, key=_drawing_order):
        kinds, curves = [], []
        for index, (run, label) in enumerate(zip(runs, labels, strict=True)):
            if np.isfinite(run.series(name)).any():
                kind, curve = make_curve(run, name, label, smoothing)
                kinds.append(kind)
                curves.append(replace(curve, color_index=index))
        # An unknown signal that leaves [-1, 1] in one run has no fixed range in any.
        kind = kinds[0] if len(set(kinds)) == 1 else "other"
        panel = _panel(kind, TITLES.get(name, _short(name)), UNITS.get(name, ""), curves, log_loss)
        panels.append(replace(panel, overlays_runs=True))
    return panels


def _panel(kind: Kind, title: str, unit: str, curves: list[Curve], log_loss: bool) -> Panel:
    positive = any((curve.bold[1] > 0.0).any() for curve in curves)
    log = positive and ((kind == "loss" and log_loss) or kind == "norm")
    return Panel(kind=kind, title=title, unit=unit, curves=curves, log=log)


def glance(panels: Sequence[Panel]) -> list[Panel]:
    """Return the two panels that tell most at a glance, with their few most telling curves."""
    wanted = ("loss", "bounded", "other", "norm", "memory", "lr")
    chosen = sorted(panels, key=lambda panel: wanted.index(panel.kind))[:2]
    return [
        panel if panel.kind == "loss" else replace(panel, curves=_telling(panel.curves))
        for panel in chosen
    ]


def _telling(curves: Sequence[Curve]) -> list[Curve]:
    """Return up to four curves, the known ones first, coloured anew."""
    ranked = sorted(curves, key=lambda curve: curve.label not in TELLING)
    return [replace(curve, color_index=index) for index, curve in enumerate(ranked[:4])]


def make_curve(
    signals: Signals, name: str, label: str, smoothing: float | None
) -> tuple[Kind, Curve]:
    """Prepare one series: join a sparse one, average a noisy one, condense a long one.

    Args:
        signals: The run.
        name: Series; has at least one finite value.
        label: Legend.
        smoothing: Share of the past in [0, 1); None chooses by the length of the run, and averages
            only what is noisy; 0 draws the values alone.

    Returns:
        The axes it belongs on, and the curve.
    """
    steps, values = signals.steps, signals.series(name)
    present = np.isfinite(values)
    rows = np.flatnonzero(present)
    num_adjacent = np.count_nonzero(present[1:] & present[:-1])
    # Mostly without a neighbour: recorded every n-th step, so the steps between are no gaps.
    if 2 * num_adjacent < len(rows) - 1:
        points = block_extremes(steps[rows], values[rows], block_size(len(rows)))
        markers = len(rows) <= MAX_MARKERS
        return kind_of(name, points[1]), Curve(name=name, label=label, raw=points, markers=markers)
    raw = block_extremes(steps, values, block_size(len(values)))
    kind, smooth = kind_of(name, raw[1]), None
    if wants_smoothing(name, raw[1], smoothing):
        divisions = STRONG if kind in ("loss", "norm") else GENTLE
        beta = auto_beta(len(rows), divisions) if smoothing is None else smoothing
        smooth = moving_average(steps, values, beta)
    return kind, Curve(name=name, label=label, raw=raw, smooth=smooth)


def wants_smoothing(name: str, raw: np.ndarray, smoothing: float | None) -> bool:
    """Tell whether a series gets an average: never the learning rate, always the loss."""
    if smoothing == 0.0 or name == "lr" or np.count_nonzero(np.isfinite(raw)) < 3:
        return False
    return name in ("loss", "loss_level_free") or smoothing is not None or is_noisy(raw)


def _short(name: str) -> str:
    labels = {"val/loss": "validation", "loss_level_free": "noise levels divided out"}
    return labels.get(name, name.removeprefix("opt/"))


def _drawing_order(name: str) -> tuple[int, int]:
    """Loss, validation, lr, gradient norm, then the optimizer's signals in a fixed order."""
    leading = ("loss", "loss_level_free", "val/loss", "lr", "grad_norm")
    if name in leading:
        return leading.index(name), 0
    short = name.removeprefix("opt/")
    return len(leading), BOUNDED.index(short) if short in BOUNDED else len(BOUNDED)
