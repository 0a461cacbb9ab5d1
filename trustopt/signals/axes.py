"""One pair of axes: data to pixels, grid, ticks and strokes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import raster
from .canvas import Canvas
from .theme import Color
from .ticks import LARGEST, Ticks, linear_ticks, log_ticks, minor_log_ticks

MOST_INTERVALS = 10
"""Between the ticks of a y axis, however high: more lines tell no more."""


@dataclass(frozen=True, kw_only=True)
class Box:
    """The area inside the axes, in whole pixels."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Pixels between left and right."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Pixels between top and bottom."""
        return self.bottom - self.top


class Axes:
    """A rectangle of the canvas in which data are drawn.

    Args:
        canvas: The picture.
        box: Area inside the axes.
        x_range: Left and right end in data units, left below right.
        y_range: Bottom and top end in data units, bottom below top; positive when ``log``.
        log: Logarithmic y axis.
    """

    def __init__(
        self,
        canvas: Canvas,
        box: Box,
        x_range: tuple[float, float],
        y_range: tuple[float, float],
        *,
        log: bool = False,
    ) -> None:
        self.canvas = canvas
        self.style = canvas.style
        self.box = box
        self.x_range = x_range
        self.y_range = y_range
        self.log = log

    def x_pixel(self, x: float) -> float:
        """Return the column of a position."""
        low, high = self.x_range
        return self.box.left + (x - low) / (high - low) * self.box.width

    def y_pixel(self, y: float) -> float:
        """Return the row of a value."""
        return float(self.rows(np.array([y]))[0])

    def rows(self, y: np.ndarray) -> np.ndarray:
        """Return the rows of values, float64; NaN for what is not finite or has no logarithm."""
        y = np.where(np.isfinite(y), np.clip(y, -LARGEST, LARGEST), np.nan)
        low, high = self.y_range
        if self.log:
            y = np.log10(np.where(y > 0.0, y, np.nan))
            low, high = math.log10(low), math.log10(high)
        # Halved: the span of a range near +-LARGEST must not overflow.
        share = (0.5 * y - 0.5 * low) / (0.5 * high - 0.5 * low)
        return self.box.bottom - share * self.box.height

    def y_ticks(self) -> Ticks:
        """Return as many ticks as are of use and the height has room for."""
        room = max(3, min(MOST_INTERVALS, self.box.height // round(2.4 * self.style.tick_size)))
        if self.log:
            return log_ticks(*self.y_range, room + 1)
        ticks = linear_ticks(*self.y_range, room)
        # One tick alone gives no scale.
        return ticks if len(ticks) > 1 else linear_ticks(*self.y_range, 2 * room)

    def draw_frame(self) -> None:
        """Draw background, horizontal grid and labelled y ticks."""
        canvas, box, style, theme = self.canvas, self.box, self.style, self.style.theme
        canvas.fill(box.left, box.top, box.right, box.bottom, theme.plot)
        if self.log:
            for value in minor_log_ticks(*self.y_range):
                row = round(self.y_pixel(value))
                canvas.fill(box.left - style.px(3), row, box.left, row + 1, theme.frame)
        for value, label in self.y_ticks():
            row = round(self.y_pixel(value))
            canvas.fill(box.left, row, box.right, row + 1, theme.grid)
            canvas.fill(box.left - style.px(6), row, box.left, row + 1, theme.frame)
            x = box.left - style.px(10)
            canvas.text(x, row, label, style.tick_size, theme.muted, "rm")

    def draw_spines(self) -> None:
        """Draw the two axis lines; after the curves, which they close off."""
        box, theme = self.box, self.style.theme
        self.canvas.fill(box.left - 1, box.top, box.left, box.bottom + 1, theme.frame)
        self.canvas.fill(box.left - 1, box.bottom, box.right, box.bottom + 1, theme.frame)

    def draw_x_ticks(self, ticks: Ticks, *, labels: bool) -> None:
        """Draw ticks below the axes, with or without their labels."""
        canvas, box, style, theme = self.canvas, self.box, self.style, self.style.theme
        for value, label in ticks:
            column = round(self.x_pixel(value))
            bottom = box.bottom + 1
            canvas.fill(column, bottom, column + 1, bottom + style.px(6), theme.frame)
            if labels:
                y = box.bottom + style.px(11)
                canvas.text(column, y, label, style.tick_size, theme.muted, "ma")

    def stroke(
        self,
        x: np.ndarray,
        y: np.ndarray,
        color: Color,
        *,
        radius: float,
        alpha: float = 1.0,
        dashed: bool = False,
    ) -> None:
        """Draw a series as a line, broken where it has no value; what is off scale is cut off.

        A value between two gaps is a dot.

        Args:
            x: Positions, ascending, ``(N,)``.
            y: Values, ``(N,)``, NaN for none.
            color: Line colour.
            radius: Half the line's width in pixels.
            alpha: Opacity.
            dashed: Interrupt the line evenly along x.
        """
        rows = self.rows(y) - self.box.top
        columns = self.box.width * raster.SUBCOLUMNS
        low, high = raster.column_envelope(x, rows, *self.x_range, columns)
        if dashed:
            # The pen's round ends reach into the gaps by its radius on both sides.
            dash = max(self.style.px(8), round(4.0 * radius) + 2) * raster.SUBCOLUMNS
            off = (np.arange(columns) // dash) % 2 == 1
            low[off] = high[off] = np.nan
        low, high = raster.stroke_spans(low, high, radius)
        first, coverage = raster.span_coverage(low, high, self.box.height)
        self.canvas.blend(self.box.left, self.box.top + first, coverage, color, alpha)
        self._draw_isolated(x, rows, color, radius)

    def _draw_isolated(self, x: np.ndarray, rows: np.ndarray, color: Color, radius: float) -> None:
        """Draw values that no line reaches as dots; beyond some they would be a smear."""
        finite = np.isfinite(rows)
        joined = np.zeros(len(rows), bool)
        joined[1:] |= finite[:-1]
        joined[:-1] |= finite[1:]
        alone = np.flatnonzero(finite & ~joined)
        if len(alone) > self.box.width // 8:
            return
        for index in alone:
            self._dot(x[index], rows[index], color, 1.8 * radius + 1.0)

    def markers(self, x: np.ndarray, y: np.ndarray, color: Color) -> None:
        """Draw a dot at every value."""
        rows = self.rows(y) - self.box.top
        for index in np.flatnonzero(np.isfinite(rows)):
            self._dot(x[index], rows[index], color, 3.2 * self.style.scale)

    def _dot(self, x: float, row: float, color: Color, radius: float) -> None:
        if 0.0 <= row <= self.box.height and self.x_range[0] <= x <= self.x_range[1]:
            self.canvas.disc(self.x_pixel(x), self.box.top + row, radius, color)

    def band(self, x: np.ndarray, flag: np.ndarray, color: Color, alpha: float) -> None:
        """Tint the full height wherever a 0/1 series is set."""
        _, high = raster.column_envelope(x, flag, *self.x_range, self.box.width)
        coverage = np.broadcast_to(high > 0.5, (self.box.height, self.box.width))
        self.canvas.blend(self.box.left, self.box.top, coverage, color, alpha)

    def vertical(self, x: float, color: Color, *, dashed: bool = True) -> None:
        """Draw a line over the full height at a position."""
        column, dash = round(self.x_pixel(x)), self.style.px(5)
        width = self.style.px(1.4)
        stride = 2 * dash if dashed else dash
        for top in range(self.box.top, self.box.bottom, stride):
            bottom = min(top + dash, self.box.bottom)
            self.canvas.fill(column, top, column + width, bottom, color)

    def rug(self, positions: Sequence[float], color: Color, *, at_top: bool) -> None:
        """Draw short strokes along the top or the bottom edge, one a pixel column at most."""
        length, width = self.style.px(8), self.style.px(1.6)
        top = self.box.top if at_top else self.box.bottom - length
        for column in sorted({round(self.x_pixel(x)) for x in positions}):
            self.canvas.fill(column, top, column + width, top + length, color)
