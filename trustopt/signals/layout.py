"""Where panels go: the first over the full width, the rest in a grid below, on one step axis."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .axes import Box
from .canvas import Canvas, Style
from .header import header_height, legend_rows
from .legend import LegendEntry
from .limits import y_limits
from .marks import Marks
from .panels import Panel
from .text import text_width
from .ticks import Ticks, linear_ticks, log_ticks

WEIGHTS = {"loss": 2.0, "bounded": 1.5}
"""Heights of panels relative to the others'."""

LEAST_FIRST = 0.5
"""The first panel is at least this high, relative to all below it."""

LEAST_HEIGHT = 14
"""Pixels; panels that would be lower are left out, last first."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A panel and its area."""

    panel: Panel
    box: Box
    legend: list[list[LegendEntry]]
    step_labels: bool
    """Steps are written below this one."""
    is_lowest: bool
    """Nothing stands below it."""


@dataclass(frozen=True, kw_only=True)
class _Row:
    panels: Sequence[Panel]
    legends: list[list[list[LegendEntry]]]
    header: int
    width: int
    weight: float


def lay_out(
    canvas: Canvas, panels: Sequence[Panel], marks: Marks, *, top: int, columns: int
) -> list[Place]:
    """Share the area below ``top`` out among panels.

    Args:
        canvas: The picture.
        panels: In order of importance, at least one; those without room are left out.
        marks: Named in the legend of the loss.
        top: First free row.
        columns: Panels side by side below the first.
    """
    style = canvas.style
    margin = _tick_margin(panels, style)
    full = canvas.width - style.px(28) - margin
    width = (canvas.width - style.px(28) - columns * margin) // columns
    rows = [_row(panels[:1], marks, style, full)] + [
        _row(panels[first : first + columns], marks, style, width)
        for first in range(1, len(panels), columns)
    ]
    gap, axis = style.px(16), style.tick_size + style.px(10)
    # With several columns the first panel's axis is longer than those below and needs its labels.
    first_axis = axis if columns > 1 and len(rows) > 1 else 0
    height = canvas.height - top - first_axis - axis - style.px(36)
    unit = _unit_height(rows, height, gap)
    while unit < LEAST_HEIGHT and len(rows) > 1:
        rows.pop()
        unit = _unit_height(rows, height, gap)

    places, y = [], float(top)
    for index, row in enumerate(rows):
        begin = y + row.header
        y = begin + max(1.0, row.weight * unit)
        below = len(rows[index + 1].panels) if index + 1 < len(rows) else 0
        for column, panel in enumerate(row.panels):
            left = margin + column * (width + margin)
            place = Place(
                panel=panel,
                box=Box(left=left, top=round(begin), right=left + row.width, bottom=round(y)),
                legend=row.legends[column],
                step_labels=column >= below or (index == 0 and first_axis > 0),
                is_lowest=column >= below,
            )
            places.append(place)
        y += gap + (first_axis if index == 0 else 0)
    return places


def _row(panels: Sequence[Panel], marks: Marks, style: Style, width: int) -> _Row:
    legends = [legend_rows(panel, marks, style, width) for panel in panels]
    return _Row(
        panels=panels,
        legends=legends,
        header=max(header_height(legend, style) for legend in legends),
        width=width,
        weight=max(WEIGHTS.get(panel.kind, 1.0) for panel in panels),
    )


def _unit_height(rows: list[_Row], height: int, gap: int) -> float:
    """Return the height of a panel of weight 1; gives the first row its least share."""
    others = sum(row.weight for row in rows[1:])
    rows[0] = replace(rows[0], weight=max(rows[0].weight, LEAST_FIRST * others))
    free = height - sum(row.header for row in rows) - gap * (len(rows) - 1)
    return free / sum(row.weight for row in rows)


def _tick_margin(panels: Sequence[Panel], style: Style) -> int:
    """Return the room left of the axes; the same for all, so that equal steps stand in line."""
    widest = 0
    for panel in panels:
        ticks: Ticks = (log_ticks if panel.log else linear_ticks)(*y_limits(panel), 6)
        widest = max([widest, *(text_width(label, style.tick_size) for _, label in ticks)])
    return widest + style.px(28)
