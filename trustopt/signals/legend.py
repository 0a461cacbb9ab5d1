"""Legends: rows of line samples with their names, above the axes so that no data are covered."""

from collections.abc import Sequence
from dataclasses import dataclass

from .canvas import Canvas, Style
from .text import fit, text_width
from .theme import Color


@dataclass(frozen=True, kw_only=True)
class LegendEntry:
    """One sample of a line with its name and, where it says something, its newest value."""

    label: str
    color: Color
    value: str = ""
    alpha: float = 1.0
    dashed: bool = False
    marker: bool = False
    swatch: bool = False
    """A block of colour instead of a line."""
    hollow: bool = False
    """Only the outline of that block."""
    tick: bool = False
    """A short upright stroke instead of a line."""


def row_height(style: Style) -> int:
    """Return the height of one legend row in pixels."""
    return round(1.45 * style.label_size)


def wrap(entries: Sequence[LegendEntry], style: Style, width: int) -> list[list[LegendEntry]]:
    """Break entries into rows of at most ``width`` pixels; one too long for a row has its own."""
    rows: list[list[LegendEntry]] = []
    used = 0
    for entry in entries:
        needed = entry_width(entry, style)
        if rows and used + _gap(style) + needed <= width:
            rows[-1].append(entry)
            used += _gap(style) + needed
        else:
            rows.append([entry])
            used = needed
    return rows


def entry_width(entry: LegendEntry, style: Style) -> int:
    """Return the width of an entry in pixels."""
    width = _sample(entry, style) + _space(style) + text_width(entry.label, style.label_size)
    if entry.value:
        width += _space(style) + text_width(entry.value, style.label_size)
    return width


def draw_rows(
    canvas: Canvas,
    rows: Sequence[Sequence[LegendEntry]],
    *,
    left: int,
    right: int,
    top: int,
    align_right: bool = True,
) -> None:
    """Draw wrapped rows from ``top`` downwards, between ``left`` and ``right``."""
    style = canvas.style
    for index, row in enumerate(rows):
        width = sum(entry_width(entry, style) for entry in row) + _gap(style) * (len(row) - 1)
        x = max(left, right - width) if align_right else left
        middle = top + round((index + 0.5) * row_height(style))
        for entry in row:
            _draw_entry(canvas, entry, x, middle, right - x)
            x += entry_width(entry, style) + _gap(style)


def _draw_entry(canvas: Canvas, entry: LegendEntry, x: int, middle: int, room: int) -> None:
    style, theme = canvas.style, canvas.style.theme
    _draw_sample(canvas, entry, x, middle)
    sample = _sample(entry, style) + _space(style)
    x += sample
    label = fit(entry.label, style.label_size, room - sample)
    canvas.text(x, middle, label, style.label_size, theme.text, "lm")
    if entry.value and label == entry.label:
        x += text_width(label, style.label_size) + _space(style)
        canvas.text(x, middle, entry.value, style.label_size, theme.muted, "lm")


def _draw_sample(canvas: Canvas, entry: LegendEntry, x: int, middle: int) -> None:
    style, sample = canvas.style, _sample(entry, canvas.style)
    thickness = style.px(12) if entry.swatch or entry.tick else max(2, style.px(3))
    top = middle - thickness // 2
    pieces = [(0, sample)]
    if entry.dashed:
        pieces = [(0, sample * 2 // 5), (sample * 3 // 5, sample)]
    for begin, end in pieces:
        canvas.fill(x + begin, top, x + end, top + thickness, entry.color, entry.alpha)
    if entry.hollow:
        edge = style.px(2)
        inside = (x + edge, top + edge, x + sample - edge, top + thickness - edge)
        canvas.fill(*inside, style.theme.background)
    if entry.marker:
        canvas.disc(x + sample / 2, top + thickness / 2, 4.2 * style.scale, entry.color)


def _sample(entry: LegendEntry, style: Style) -> int:
    return style.px(2) if entry.tick else style.px(14) if entry.swatch else style.px(26)


def _space(style: Style) -> int:
    return style.px(7)


def _gap(style: Style) -> int:
    return style.px(22)
