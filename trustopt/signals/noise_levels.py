"""Loss by noise level: the loss of a step says mostly which levels were drawn, this does not."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from .axes import Axes, Box
from .bar_frame import bar_style, draw_heading, draw_x_label, fill_bar, label_margin, swatches
from .canvas import Canvas
from .summary import unique_names
from .table import BIN_PREFIX, NUM_BINS, Signals
from .theme import ThemeName
from .ticks import linear_ticks


def timestep_profile(
    signals: Signals, begin: float = 0.75, end: float = 1.0, *, num_bins: int = NUM_BINS
) -> np.ndarray:
    """Average the loss in every noise level bin over a part of the run.

    Args:
        signals: A run that recorded ``loss_bin/<k>``.
        begin: Where the part begins, as a share of the recorded steps.
        end: Where it ends.
        num_bins: K, the bins the levels are divided into; higher ones are left out.

    Returns:
        Mean loss of each bin, float64 ``(K,)``; NaN for a bin no sample fell into.

    Raises:
        ValueError: If not ``0 <= begin < end <= 1``.
    """
    if not 0.0 <= begin < end <= 1.0:
        raise ValueError(f"need 0 <= begin < end <= 1, got begin {begin}, end {end}")
    part = _part(signals, begin, end)
    profile = np.full(num_bins, math.nan)
    for index in range(num_bins):
        values = signals.series(f"{BIN_PREFIX}{index}")[part]
        values = values[np.isfinite(values)]
        if len(values):
            profile[index] = values.mean()
    return profile


def profiles_of(runs: Sequence[Signals]) -> dict[str, np.ndarray]:
    """Return the profiles worth comparing, by what to call them.

    Args:
        runs: One run: its first and its last quarter. Several: the last quarter of each, under
            the names that ``plot_signals`` gives them.

    Returns:
        Mean loss of each bin by label, ``(K,)`` each; empty if no run recorded any.
    """
    if not any(name.startswith(BIN_PREFIX) for run in runs for name in run.names):
        return {}
    if len(runs) > 1:
        labels = unique_names([run.run for run in runs])
        return dict(zip(labels, map(timestep_profile, runs), strict=True))
    (run,) = runs
    quarters = ((0.0, 0.25), (0.75, 1.0))
    return {_steps_of(run, *quarter): timestep_profile(run, *quarter) for quarter in quarters}


def plot_loss_by_timestep(
    bins: Sequence[float] | np.ndarray | Mapping[str, Sequence[float] | np.ndarray],
    *,
    edges: Sequence[float] | None = None,
    size: tuple[int, int] = (1280, 640),
    theme: ThemeName = "light",
    title: str = "Mean loss by noise level",
    note: str = "",
    x_label: str = "Noise level (0 clean, 1 pure noise)",
) -> np.ndarray:
    """Draw the mean loss in bins of the noise level, one bar a bin or one for each named profile.

    Args:
        bins: Mean loss of each bin, ``(K,)``; or several such by name, side by side (first and last
            quarter of a run, or several runs). NaN leaves a bin empty.
        edges: K + 1 ascending bin edges; by default equal bins of [0, 1].
        size: Width and height in pixels.
        theme: ``light`` or ``dark``.
        title: Written above.
        note: Written beside the title: the run.
        x_label: What ``edges`` measure.

    Returns:
        uint8 ``(height, width, 3)``.

    Raises:
        ValueError: If the profiles differ in length, ``edges`` do not fit them or do not ascend,
            the theme is unknown or the size unusable.
    """
    named = bins if isinstance(bins, Mapping) else {"": bins}
    profiles = {name: np.asarray(values, np.float64) for name, values in named.items()}
    lengths = {len(values) for values in profiles.values()}
    if len(lengths) > 1:
        raise ValueError(f"profiles must have the same bins, got {sorted(lengths)} of them")
    num_bins = max(lengths, default=0)
    positions = _check_edges(edges, num_bins)
    canvas = Canvas(size, bar_style(size, theme))
    style = canvas.style
    everything = np.concatenate([np.zeros(0), *profiles.values()])
    everything = everything[np.isfinite(everything)]
    top = draw_heading(canvas, title, note, swatches(list(profiles), style))
    if not len(everything):
        return canvas.say("no values recorded yet")
    highest = float(everything.max()) or 1.0
    y_range = (min(0.0, 1.08 * float(everything.min())), max(0.0, 1.08 * highest))
    x_range = (float(positions[0]), float(positions[-1]))
    whole = Box(
        left=0, top=top, right=canvas.width - style.px(28), bottom=canvas.height - style.px(74)
    )
    left = label_margin(Axes(canvas, whole, x_range, y_range).y_ticks(), style)
    box = replace(whole, left=left)
    axes = Axes(canvas, box, x_range, y_range)
    axes.draw_frame()
    for index, profile in enumerate(profiles.values()):
        _draw_bins(axes, positions, profile, index, len(profiles))
    axes.draw_spines()
    room = max(2, box.width // style.px(110))
    axes.draw_x_ticks(linear_ticks(*axes.x_range, room), labels=True)
    draw_x_label(canvas, x_label, (box.left + box.right) / 2)
    return canvas.render()


def _part(signals: Signals, begin: float, end: float) -> slice:
    return slice(math.floor(begin * len(signals)), math.ceil(end * len(signals)))


def _steps_of(run: Signals, begin: float, end: float) -> str:
    """Write which steps a part of a run is: "steps 226 to 300"."""
    steps = run.steps[_part(run, begin, end)]
    first, last = int(steps[0]), int(steps[-1])
    return f"step {first:,}" if first == last else f"steps {first:,} to {last:,}"


def _check_edges(edges: Sequence[float] | None, num_bins: int) -> np.ndarray:
    if edges is None:
        return np.linspace(0.0, 1.0, num_bins + 1)
    positions = np.asarray(edges, np.float64)
    if len(positions) != num_bins + 1 or not (np.diff(positions) > 0.0).all():
        raise ValueError(
            f"{num_bins} bins need {num_bins + 1} ascending edges, got {list(edges)[:20]}"
        )
    return positions


def _draw_bins(axes: Axes, edges: np.ndarray, profile: np.ndarray, index: int, count: int) -> None:
    """Draw one profile; those of a bin share its width, with a tenth of it free at both ends."""
    zero = axes.y_pixel(0.0)
    for bin_index in np.flatnonzero(np.isfinite(profile)):
        left = axes.x_pixel(float(edges[bin_index]))
        right = axes.x_pixel(float(edges[bin_index + 1]))
        width = 0.8 * (right - left) / count
        begin = left + 0.1 * (right - left) + index * width
        # A pixel between neighbours keeps bars of one bin apart.
        end = max(begin + 1.0, begin + width - (1.0 if count > 1 else 0.0))
        row = axes.y_pixel(float(profile[bin_index]))
        fill_bar(axes.canvas, begin, min(row, zero), end, max(row, zero), index)
