"""The line above a panel: title, unit, legend."""

from collections.abc import Sequence

import numpy as np

from .axes import Box
from .canvas import Canvas, Style
from .legend import LegendEntry, draw_rows, row_height, wrap
from .marks import Marks
from .panels import Curve, Panel
from .text import text_width
from .theme import Color
from .ticks import format_value

RAW_ALPHA = 0.36
"""Opacity of raw values behind their average."""


def color_of(curve: Curve, style: Style) -> Color:
    """Return a curve's colour in the theme."""
    palette = style.theme.series
    return palette[curve.color_index % len(palette)]


def is_dashed(curve: Curve, style: Style) -> bool:
    """Tell whether the palette was used up before this curve."""
    return curve.color_index >= len(style.theme.series)


def legend_rows(panel: Panel, marks: Marks, style: Style, width: int) -> list[list[LegendEntry]]:
    """Return a panel's legend in rows that leave room for its title."""
    room = width - _title_width(panel, style) - style.px(20)
    if panel.overlays_runs:
        rows = wrap(_overlay_legend(panel, style), style, room)
        # The heading names the runs; values that do not fit beside the title can go.
        return rows if len(rows) == 1 and room > width // 3 else []
    entries = _legend(panel, style)
    if panel.kind == "loss":
        entries += _mark_legend(marks, style)
    return wrap(entries, style, max(room, width // 3))


def _legend(panel: Panel, style: Style) -> list[LegendEntry]:
    """Name every curve, with its newest value."""
    entries = []
    for curve in panel.curves:
        color = color_of(curve, style)
        is_loss = curve.smooth is not None and curve.name == "loss"
        if is_loss and panel.shows_raw:
            entries.append(LegendEntry(label="raw", color=color, alpha=RAW_ALPHA + 0.1))
        entry = LegendEntry(
            label="smoothed" if is_loss else curve.label,
            color=color,
            value=_newest(curve),
            dashed=is_dashed(curve, style),
            marker=curve.markers,
        )
        entries.append(entry)
    return entries


def _overlay_legend(panel: Panel, style: Style) -> list[LegendEntry]:
    """Give only the newest values, each in the colour of its run."""
    return [
        LegendEntry(
            label=_newest(curve), color=color_of(curve, style), dashed=is_dashed(curve, style)
        )
        for curve in panel.curves
    ]


def _mark_legend(marks: Marks, style: Style) -> list[LegendEntry]:
    theme = style.theme
    entries = []
    if marks.saves:
        entries.append(LegendEntry(label="saved", color=theme.muted, tick=True))
    if marks.skipped:
        entries.append(LegendEntry(label="skipped", color=theme.alert, tick=True))
    return entries


def _newest(curve: Curve) -> str:
    values = curve.bold[1]
    finite = values[np.isfinite(values)]
    return format_value(float(finite[-1])) if len(finite) else ""


def header_height(rows: Sequence[object], style: Style) -> int:
    """Return the height of title and legend above the axes."""
    return max(1, len(rows)) * row_height(style) + style.px(5)


def draw_header(
    canvas: Canvas, panel: Panel, rows: Sequence[Sequence[LegendEntry]], box: Box
) -> None:
    """Write title and legend above the axes."""
    style, theme = canvas.style, canvas.style.theme
    top = box.top - header_height(rows, style)
    middle = top + row_height(style) // 2
    canvas.text(box.left, middle, panel.title, style.label_size, theme.text, "lm")
    x = box.left + text_width(panel.title, style.label_size) + style.px(8)
    canvas.text(x, middle, _unit(panel), style.tick_size, theme.muted, "lm")
    left = box.left + _title_width(panel, style) + style.px(20)
    draw_rows(canvas, rows, left=left, right=box.right, top=top)


def _title_width(panel: Panel, style: Style) -> int:
    unit = _unit(panel)
    width = text_width(panel.title, style.label_size)
    return width + (style.px(8) + text_width(unit, style.tick_size) if unit else 0)


def _unit(panel: Panel) -> str:
    average = "" if panel.shows_raw or panel.overlays_runs else "moving average"
    parts = [panel.unit, "log scale" if panel.log else "", average]
    return ", ".join(part for part in parts if part)
