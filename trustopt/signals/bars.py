"""Bar pictures: loss by noise level, and how much each block of the network has learned."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from .axes import Axes, Box
from .canvas import Canvas, Style, make_style
from .legend import LegendEntry, draw_rows, row_height, wrap
from .table import Signals
from .text import fit, text_width
from .theme import Color, ThemeName
from .ticks import Ticks, format_value, linear_ticks

BIN_PREFIX = "loss_bin/"
"""Series ``loss_bin/0`` … ``loss_bin/K-1``: a step's mean loss in each of K noise level bins."""


def timestep_profile(signals: Signals, begin: float = 0.75, end: float = 1.0) -> np.ndarray:
    """Average the loss in every noise level bin over a part of the run.

    Args:
        signals: A run that recorded ``loss_bin/<k>``.
        begin: Where the part begins, as a share of the recorded steps.
        end: Where it ends.

    Returns:
        Mean loss of each bin, float64 ``(K,)``; NaN for a bin no sample fell into; empty if the run
        recorded no bins.

    Raises:
        ValueError: If not ``0 <= begin < end <= 1``.
    """
    if not 0.0 <= begin < end <= 1.0:
        raise ValueError(f"need 0 <= begin < end <= 1, got begin {begin}, end {end}")
    bins = [name for name in signals.names if name.startswith(BIN_PREFIX)]
    num_bins = 1 + max((int(name.removeprefix(BIN_PREFIX)) for name in bins), default=-1)
    part = slice(math.floor(begin * len(signals)), math.ceil(end * len(signals)))
    profile = np.full(num_bins, math.nan)
    for index in range(num_bins):
        values = signals.series(f"{BIN_PREFIX}{index}")[part]
        values = values[np.isfinite(values)]
        if len(values):
            profile[index] = values.mean()
    return profile


def plot_loss_by_timestep(
    bins: Sequence[float] | np.ndarray | Mapping[str, Sequence[float] | np.ndarray],
    *,
    edges: Sequence[float] | None = None,
    size: tuple[int, int] = (1280, 640),
    theme: ThemeName = "light",
    title: str = "Mean loss by noise level",
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
    canvas = Canvas(size, _bar_style(size, theme))
    style = canvas.style
    legend = [
        LegendEntry(label=name, color=_color(index, style), swatch=True)
        for index, name in enumerate(profiles)
        if name
    ]
    everything = np.concatenate([np.zeros(0), *profiles.values()])
    everything = everything[np.isfinite(everything)]
    top = _heading(canvas, title, legend)
    if not len(everything):
        return canvas.say("no values recorded yet")
    highest = float(everything.max()) or 1.0
    y_range = (min(0.0, 1.08 * float(everything.min())), max(0.0, 1.08 * highest))
    left = _label_margin(linear_ticks(*y_range, 6), style)
    bottom = canvas.height - style.px(74)
    box = Box(left=left, top=top, right=canvas.width - style.px(28), bottom=bottom)
    axes = Axes(canvas, box, (float(positions[0]), float(positions[-1])), y_range)
    axes.draw_frame()
    for index, profile in enumerate(profiles.values()):
        _draw_bins(axes, positions, profile, _color(index, style), index, len(profiles))
    axes.draw_spines()
    room = max(2, box.width // style.px(110))
    axes.draw_x_ticks(linear_ticks(*axes.x_range, room), labels=True)
    middle = (box.left + box.right) / 2
    y = canvas.height - style.px(14)
    canvas.text(middle, y, x_label, style.label_size, style.theme.text, "ms")
    return canvas.render()


def _check_edges(edges: Sequence[float] | None, num_bins: int) -> np.ndarray:
    if edges is None:
        return np.linspace(0.0, 1.0, num_bins + 1)
    positions = np.asarray(edges, np.float64)
    if len(positions) != num_bins + 1 or not (np.diff(positions) > 0.0).all():
        raise ValueError(
            f"{num_bins} bins need {num_bins + 1} ascending edges, got {list(edges)[:20]}"
        )
    return positions


def _draw_bins(
    axes: Axes, edges: np.ndarray, profile: np.ndarray, color: Color, index: int, count: int
) -> None:
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
        axes.canvas.fill(begin, min(row, zero), end, max(row, zero), color)


def plot_block_norms(
    norms: Mapping[str, float],
    *,
    size: tuple[int, int] = (1280, 960),
    theme: ThemeName = "light",
    title: str = "Norm of the learned change by block",
    x_label: str = "L2 norm",
) -> np.ndarray:
    """Draw one horizontal bar a block, from top to bottom in the given order.

    Blocks whose names begin alike (``double_blocks.0``, ``double_blocks.1``) share a colour.

    Args:
        norms: Norm of each block by name, >= 0; NaN leaves a bar out.
        size: Width and height in pixels.
        theme: ``light`` or ``dark``.
        title: Written above.
        x_label: What is measured, and its unit.

    Returns:
        uint8 ``(height, width, 3)``. With too many blocks to name them all, every n-th is named.

    Raises:
        ValueError: If a norm is negative, the theme is unknown or the size unusable.
    """
    for name, value in norms.items():
        if value < 0.0:
            raise ValueError(f"a norm is at least 0, got {value} for {name!r}")
    canvas = Canvas(size, _bar_style(size, theme))
    style = canvas.style
    groups = list(dict.fromkeys(_group(name) for name in norms))
    legend = [
        LegendEntry(label=group, color=_color(index, style), swatch=True)
        for index, group in enumerate(groups)
    ]
    top = _heading(canvas, title, legend if len(groups) > 1 else [])
    finite = [value for value in norms.values() if math.isfinite(value)]
    if not finite:
        return canvas.say("no values recorded yet")
    box = _bar_box(canvas, norms, top)
    axes = Axes(canvas, box, (0.0, 1.12 * (max(finite) or 1.0)), (0.0, 1.0))
    canvas.fill(box.left, box.top, box.right, box.bottom, style.theme.plot)
    ticks = linear_ticks(*axes.x_range, max(2, box.width // style.px(110)))
    for position, _ in ticks:
        column = round(axes.x_pixel(position))
        canvas.fill(column, box.top, column + 1, box.bottom, style.theme.grid)
    colors = {group: _color(index, style) for index, group in enumerate(groups)}
    _draw_blocks(axes, norms, colors)
    axes.draw_spines()
    axes.draw_x_ticks(ticks, labels=True)
    middle = (box.left + box.right) / 2
    y = canvas.height - style.px(14)
    canvas.text(middle, y, x_label, style.label_size, style.theme.text, "ms")
    return canvas.render()


def _bar_box(canvas: Canvas, norms: Mapping[str, float], top: int) -> Box:
    """Leave room for the longest name, up to a third of the width."""
    style = canvas.style
    longest = max(text_width(name, style.tick_size) for name in norms)
    left = style.px(28) + min(longest + style.px(12), canvas.width // 3)
    bottom = canvas.height - style.px(74)
    return Box(left=left, top=top, right=canvas.width - style.px(28), bottom=bottom)


def _draw_blocks(axes: Axes, norms: Mapping[str, float], colors: Mapping[str, Color]) -> None:
    canvas, style, box = axes.canvas, axes.style, axes.box
    pitch = box.height / len(norms)
    font = min(style.tick_size, max(9, round(0.85 * pitch)))
    every = max(1, math.ceil(font / pitch))
    for index, (name, value) in enumerate(norms.items()):
        centre = box.top + (index + 0.5) * pitch
        if index % every == 0:
            label = fit(name, font, box.left - style.px(34))
            canvas.text(box.left - style.px(8), centre, label, font, style.theme.text, "rm")
        if not math.isfinite(value):
            continue
        half = max(0.5, 0.36 * pitch)
        end = axes.x_pixel(value)
        canvas.fill(box.left, centre - half, end, centre + half, colors[_group(name)])
        if every == 1:
            x = end + style.px(7)
            canvas.text(x, centre, format_value(value), font, style.theme.muted, "lm")


def _bar_style(size: tuple[int, int], theme: ThemeName) -> Style:
    """Size text by the tighter side: a single pair of axes has room for it."""
    width, height = size
    return make_style(size, theme, scale=max(0.5, min(width / 1280, height / 640)))


def _group(name: str) -> str:
    return name.removeprefix("diffusion_model.").split(".")[0]


def _color(index: int, style: Style) -> Color:
    return style.theme.series[index % len(style.theme.series)]


def _heading(canvas: Canvas, title: str, legend: Sequence[LegendEntry]) -> int:
    """Write title and legend; return the first free row below."""
    style = canvas.style
    left, right, middle = style.px(28), canvas.width - style.px(28), style.px(34)
    title = fit(title, style.title_size, right - left)
    canvas.text(left, middle, title, style.title_size, style.theme.text, "lm")
    start = left + text_width(title, style.title_size) + style.px(28)
    rows = wrap(legend, style, max(right - start, (right - left) // 3))
    top = middle - row_height(style) // 2
    draw_rows(canvas, rows, left=start, right=right, top=top)
    return max(style.px(64), top + len(rows) * row_height(style) + style.px(12))


def _label_margin(ticks: Ticks, style: Style) -> int:
    widest = max((text_width(label, style.tick_size) for _, label in ticks), default=0)
    return widest + style.px(28)
