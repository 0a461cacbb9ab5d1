"""How much each block of the network has learned: bars of one LoRA, dots of several."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .axes import Axes, Box
from .bar_frame import (
    bar_style,
    color,
    draw_heading,
    draw_x_label,
    fill_bar,
    is_hollow,
    swatches,
)
from .canvas import Canvas
from .text import fit, text_width
from .theme import ThemeName
from .ticks import format_value, linear_ticks

TITLE = "Norm of the learned change by block"
X_LABEL = "L2 norm"


def plot_block_norms(
    norms: Mapping[str, float],
    *,
    size: tuple[int, int] = (1280, 960),
    theme: ThemeName = "light",
    title: str = TITLE,
    note: str = "",
    x_label: str = X_LABEL,
) -> np.ndarray:
    """Draw one horizontal bar a block, from top to bottom in the given order.

    Blocks whose names begin alike (``double_blocks.0``, ``double_blocks.1``) share a colour.

    Args:
        norms: Norm of each block by name, >= 0; NaN leaves a bar out.
        size: Width and height in pixels.
        theme: ``light`` or ``dark``.
        title: Written above.
        note: Written beside the title: the LoRA.
        x_label: What is measured, and its unit.

    Returns:
        uint8 ``(height, width, 3)``. With too many blocks to name them all, every n-th is named.

    Raises:
        ValueError: If a norm is negative, the theme is unknown or the size unusable.
    """
    _check(norms.items())
    canvas = Canvas(size, bar_style(size, theme))
    groups = {name: index for index, name in enumerate(dict.fromkeys(map(_group, norms)))}
    legend = swatches(list(groups), canvas.style) if len(groups) > 1 else []
    top = draw_heading(canvas, title, note, legend)
    finite = [value for value in norms.values() if math.isfinite(value)]
    if not finite:
        return canvas.say("no values recorded yet")
    axes = _frame(canvas, list(norms), max(finite), top, x_label)
    for row in _rows(axes, list(norms)):
        value = norms[row.name]
        if math.isfinite(value):
            end = axes.x_pixel(value)
            half = max(0.5, 0.36 * row.pitch)
            index = groups[_group(row.name)]
            fill_bar(canvas, axes.box.left, row.centre - half, end, row.centre + half, index)
            row.write_value(axes, end, value)
    axes.draw_spines()
    return canvas.render()


def compare_block_norms(
    norms: Mapping[str, Sequence[float]],
    runs: Sequence[str],
    *,
    size: tuple[int, int] = (1280, 960),
    theme: ThemeName = "light",
    title: str = TITLE,
    x_label: str = X_LABEL,
) -> np.ndarray:
    """Draw one row a block with one dot a run, in the colours that ``plot_signals`` gives runs.

    Args:
        norms: Norm of each run by block, >= 0, in the order of ``runs``; NaN where a run has no
            such block.
        runs: Their names.
        size: Width and height in pixels.
        theme: ``light`` or ``dark``.
        title: Written above.
        x_label: What is measured, and its unit.

    Returns:
        uint8 ``(height, width, 3)``.

    Raises:
        ValueError: If a norm is negative, a block has not one norm a run, the theme is unknown or
            the size unusable.

    Source:
        Cleveland 1984, "Graphical methods for data presentation", The American Statistician 38:
        positions on one scale are compared more exactly than lengths of many thin bars.
    """
    for block, values in norms.items():
        if len(values) != len(runs):
            raise ValueError(f"{block!r} needs {len(runs)} norms, one a run, got {len(values)}")
        _check((f"{block} of {run}", value) for run, value in zip(runs, values, strict=True))
    canvas = Canvas(size, bar_style(size, theme))
    style = canvas.style
    top = draw_heading(canvas, title, "", swatches(runs, style))
    finite = [value for values in norms.values() for value in values if math.isfinite(value)]
    if not finite:
        return canvas.say("no values recorded yet")
    axes = _frame(canvas, list(norms), max(finite), top, x_label)
    for row in _rows(axes, list(norms)):
        middle = round(row.centre)
        canvas.fill(axes.box.left, middle, axes.box.right, middle + 1, style.theme.grid)
        radius = min(6.0 * style.scale, max(2.0, 0.42 * row.pitch))
        for index, value in enumerate(norms[row.name]):
            if math.isfinite(value):
                _dot(canvas, axes.x_pixel(value), row.centre, radius, index)
    axes.draw_spines()
    return canvas.render()


@dataclass(frozen=True, kw_only=True)
class _Row:
    """One block's row in the picture."""

    name: str
    centre: float
    pitch: float
    font: int
    has_room: bool
    """Every row is high enough for text."""

    def write_name(self, axes: Axes) -> None:
        """Write the block's name left of the axes."""
        style, left = axes.style, axes.box.left
        label = fit(self.name, self.font, left - style.px(34))
        x = left - style.px(8)
        axes.canvas.text(x, self.centre, label, self.font, style.theme.text, "rm")

    def write_value(self, axes: Axes, x: float, value: float) -> None:
        """Write a norm beside the end of its bar."""
        if self.has_room:
            style = axes.style
            text = format_value(value)
            x += style.px(7)
            axes.canvas.text(x, self.centre, text, self.font, style.theme.muted, "lm")


def _rows(axes: Axes, names: Sequence[str]) -> Iterator[_Row]:
    """Yield the rows from top to bottom, their names written: every n-th if they are many."""
    pitch = axes.box.height / len(names)
    font = min(axes.style.tick_size, max(9, round(0.85 * pitch)))
    every = max(1, math.ceil(font / pitch))
    for index, name in enumerate(names):
        centre = axes.box.top + (index + 0.5) * pitch
        row = _Row(name=name, centre=centre, pitch=pitch, font=font, has_room=every == 1)
        if index % every == 0:
            row.write_name(axes)
        yield row


def _frame(canvas: Canvas, names: Sequence[str], highest: float, top: int, x_label: str) -> Axes:
    """Draw background, vertical grid, ticks and x label; return the axes."""
    style = canvas.style
    box = _box(canvas, names, top)
    axes = Axes(canvas, box, (0.0, 1.12 * (highest or 1.0)), (0.0, 1.0))
    canvas.fill(box.left, box.top, box.right, box.bottom, style.theme.plot)
    ticks = linear_ticks(*axes.x_range, max(2, box.width // style.px(110)))
    for position, _ in ticks:
        column = round(axes.x_pixel(position))
        canvas.fill(column, box.top, column + 1, box.bottom, style.theme.grid)
    axes.draw_x_ticks(ticks, labels=True)
    draw_x_label(canvas, x_label, (box.left + box.right) / 2)
    return axes


def _box(canvas: Canvas, names: Sequence[str], top: int) -> Box:
    """Leave room for the longest name, up to a third of the width."""
    style = canvas.style
    longest = max(text_width(name, style.tick_size) for name in names)
    left = style.px(28) + min(longest + style.px(12), canvas.width // 3)
    bottom = canvas.height - style.px(74)
    return Box(left=left, top=top, right=canvas.width - style.px(28), bottom=bottom)


def _dot(canvas: Canvas, x: float, y: float, radius: float, index: int) -> None:
    style = canvas.style
    canvas.disc(x, y, radius + 1.0, style.theme.plot)  # so that dots that overlap stay apart
    canvas.disc(x, y, radius, color(index, style))
    if is_hollow(index, style):
        canvas.disc(x, y, 0.5 * radius, style.theme.plot)


def _group(name: str) -> str:
    return name.removeprefix("diffusion_model.").split(".")[0]


def _check(norms: Iterable[tuple[str, float]]) -> None:
    for name, value in norms:
        if value < 0.0:
            raise ValueError(f"a norm is at least 0, got {value} for {name!r}")
