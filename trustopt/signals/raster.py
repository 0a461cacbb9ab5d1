"""From a series to antialiased pixels, at a cost that depends on the picture, not on the steps.

A series is a function of the step, so its stroke meets every pixel column in one vertical span.
The span is found exactly (lowest and highest value inside the column, edges interpolated), widened
by the pen's disc, and its overlap with each pixel is the pixel's coverage. Spans are taken at
``SUBCOLUMNS`` per pixel and averaged, which antialiases steep parts as the overlap does flat ones.
"""

import numpy as np

SUBCOLUMNS = 4
"""Spans per pixel column."""


def column_envelope(
    x: np.ndarray, y: np.ndarray, x_low: float, x_high: float, num_columns: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and highest value of a polyline inside each of ``num_columns`` columns.

    Column c covers ``[x_low + c * w, x_low + (c + 1) * w]``. No extreme is lost by decimation, and
    a segment that crosses columns without a point in them is interpolated. Non-finite values of
    ``y`` break the line.

    Args:
        x: Positions, ascending, ``(N,)``.
        y: Values, ``(N,)``.
        x_low: Left edge of the first column.
        x_high: Right edge of the last column, above ``x_low``.
        num_columns: Columns between them.

    Returns:
        ``(low, high)``, float64 ``(num_columns,)`` each; NaN where the line is absent.
    """
    empty = np.full(num_columns, np.nan)
    finite = np.isfinite(y)
    if not finite.any():
        return empty, empty.copy()
    edges = np.linspace(x_low, x_high, num_columns + 1)
    at_edges = _interpolate(x, y, edges)
    low = np.fmin(at_edges[:-1], at_edges[1:])
    high = np.fmax(at_edges[:-1], at_edges[1:])

    inside = finite & (x >= x_low) & (x <= x_high)
    columns = ((x[inside] - x_low) * (num_columns / (x_high - x_low))).astype(np.intp)
    np.clip(columns, 0, num_columns - 1, out=columns)
    if len(columns):
        starts = np.flatnonzero(np.r_[True, columns[1:] != columns[:-1]])
        hit = columns[starts]
        values = y[inside]
        low[hit] = np.fmin(low[hit], np.minimum.reduceat(values, starts))
        high[hit] = np.fmax(high[hit], np.maximum.reduceat(values, starts))
    return low, high


def _interpolate(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return the polyline's value at each position, NaN outside it and inside gaps."""
    if len(x) < 2:
        return np.full(at.shape, np.nan)
    right = np.clip(np.searchsorted(x, at, side="right"), 1, len(x) - 1)
    left = right - 1
    width = x[right] - x[left]
    fraction = (at - x[left]) / np.where(width > 0, width, 1)
    # The weighted form: y[right] - y[left] overflows for values near the float64 limit.
    with np.errstate(invalid="ignore"):
        values = (1.0 - fraction) * y[left] + fraction * y[right]
    values[(fraction < 0.0) | (fraction > 1.0) | ~np.isfinite(values)] = np.nan
    return values


def stroke_spans(low: np.ndarray, high: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Widen spans by a disc: what a round pen of this radius covers when it follows the line.

    Args:
        low: Upper ends in pixels (pixel rows grow downwards), one per subcolumn, NaN for none.
        high: Lower ends.
        radius: Pen radius in pixels.
    """
    reach = max(1, round(radius * SUBCOLUMNS))
    size = len(low)
    padded_low = np.pad(low, reach, constant_values=np.nan)
    padded_high = np.pad(high, reach, constant_values=np.nan)
    wide_low, wide_high = np.full(size, np.nan), np.full(size, np.nan)
    for shift in range(-reach, reach + 1):
        squared = radius**2 - (shift / SUBCOLUMNS) ** 2
        if squared < 0.0:
            continue
        cut = slice(reach + shift, reach + shift + size)
        np.fmin(wide_low, padded_low[cut] - squared**0.5, out=wide_low)
        np.fmax(wide_high, padded_high[cut] + squared**0.5, out=wide_high)
    return wide_low, wide_high


def span_coverage(low: np.ndarray, high: np.ndarray, height: int) -> tuple[int, np.ndarray]:
    """Return how much of each pixel the spans cover.

    Args:
        low: Upper ends in pixels below the top of the area, one per subcolumn, NaN for none.
        high: Lower ends; what lies outside ``[0, height]`` is cut off.
        height: Rows of the area.

    Returns:
        The first row touched, and float32 coverage in [0, 1] of the rows from there on, shape
        ``(rows, len(low) / SUBCOLUMNS)``.
    """
    width = len(low) // SUBCOLUMNS
    present = np.isfinite(low) & np.isfinite(high)
    top = np.where(present, np.clip(low, 0.0, height), 0.0).astype(np.float32)
    bottom = np.where(present, np.clip(high, 0.0, height), 0.0).astype(np.float32)
    visible = bottom > top
    if not visible.any():
        return 0, np.zeros((0, width), np.float32)
    first = int(top[visible].min())
    last = int(np.ceil(bottom[visible].max()))
    rows = np.arange(first, last, dtype=np.float32)[:, None]
    covered = np.minimum(bottom, rows + 1.0)
    covered -= np.maximum(top, rows)
    np.maximum(covered, 0.0, out=covered)
    # Four strided adds are several times faster than a mean over a reshaped axis of four.
    total = covered[:, 0::SUBCOLUMNS].copy()
    for offset in range(1, SUBCOLUMNS):
        total += covered[:, offset::SUBCOLUMNS]
    total *= 1.0 / SUBCOLUMNS
    return first, total


def disc_coverage(x: float, y: float, radius: float) -> tuple[int, int, np.ndarray]:
    """Return the coverage of an antialiased disc.

    Returns:
        Left column and top row of the patch, and its float32 coverage ``(rows, columns)``.
    """
    left, top = int(np.floor(x - radius - 1.0)), int(np.floor(y - radius - 1.0))
    size = int(np.ceil(2.0 * radius + 4.0))
    centres = np.arange(size, dtype=np.float32) + 0.5
    distance = np.hypot(centres[None, :] + left - x, centres[:, None] + top - y)
    return left, top, np.clip(radius + 0.5 - distance, 0.0, 1.0).astype(np.float32)
