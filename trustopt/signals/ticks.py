"""Readable axis ticks: where they stand and how they are written."""

import math

import numpy as np

Ticks = list[tuple[float, str]]
"""Positions in data units, ascending, with their labels."""

LARGEST = 1e300
"""Larger values are drawn here: axes that reach farther would overflow float64."""


def nice_step(span: float, max_count: int) -> float:
    """Return the smallest 1, 2 or 5 times a power of ten that fits ``max_count`` steps in ``span``.

    Source:
        After Heckbert 1990, "Nice numbers for graph labels", Graphics Gems.
    """
    rough = span / max(1, max_count)
    magnitude = 10.0 ** math.floor(math.log10(rough))
    for factor in (1.0, 2.0, 5.0):
        # Tolerance: 0.3 / 3 is a hair above 0.1 and must still choose 0.1.
        if rough <= factor * magnitude * (1.0 + 1e-9):
            return factor * magnitude
    return 10.0 * magnitude


def linear_ticks(low: float, high: float, max_count: int, *, integer: bool = False) -> Ticks:
    """Return at most ``max_count + 1`` round positions inside ``[low, high]``, labelled alike.

    Args:
        low: Lower end of the axis.
        high: Upper end, above ``low``.
        max_count: Intervals there is room for.
        integer: Use whole numbers only (steps).
    """
    step = nice_step(high - low, max_count)
    if integer:
        step = max(1.0, step)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    # Multiples of the step, not a running sum: 3 * 0.1 drifts less than 0.1 + 0.1 + 0.1.
    values = [index * step for index in range(first, last + 1)]
    largest = max((abs(value) for value in values), default=0.0)
    write = _count_label if integer else _linear_label
    return [(value, write(value, step, largest)) for value in values]


def _count_label(value: float, step: float, largest: float) -> str:
    """Write a count: ``1,200``, from 100,000 on in thousands, from a million on in millions."""
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if largest >= max(unit, 1e5) and step >= unit / 1e2:
            return f"{value / unit:g}{letter}" if value else "0"
    return f"{value:,.0f}"


def _linear_label(value: float, step: float, largest: float) -> str:
    """Write one tick so that all ticks of an axis with this step have the same number of digits."""
    if value == 0.0:
        return "0"
    if largest >= 1e6 or largest < 1e-3:
        # Digits after the leading one that the step still distinguishes.
        digits = max(0, math.floor(math.log10(abs(value))) - math.floor(math.log10(step)))
        return _scientific(value, digits)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:,.{decimals}f}"


def log_ticks(low: float, high: float, max_count: int) -> Ticks:
    """Return round positions for a logarithmic axis, ``0 < low < high``.

    Whole decades when the axis spans some, else 1-2-5 multiples, else linear ticks.
    """
    first = math.ceil(math.log10(low) - 1e-9)
    last = math.floor(math.log10(high) + 1e-9)
    if last - first >= 2:
        stride = -(-(last - first + 1) // max(2, max_count))
        decades = range(first + (-first) % stride, last + 1, stride)
        return [(10.0**k, power_label(k)) for k in decades]
    exponents = range(first - 1, last + 1)
    values = [m * 10.0**k for k in exponents for m in (1.0, 2.0, 5.0)]
    values = [v for v in values if low * (1 - 1e-9) <= v <= high * (1 + 1e-9)]
    if len(values) >= 2:
        return [(v, format_value(v)) for v in values]
    # Few round numbers may all miss a short axis; finer ones do not.
    return linear_ticks(low, high, max_count) or linear_ticks(low, high, 4 * max_count)


def minor_log_ticks(low: float, high: float) -> list[float]:
    """Return 2..9 times each power of ten inside ``[low, high]``; none beyond eight decades."""
    first, last = math.floor(math.log10(low)), math.floor(math.log10(high))
    if last - first > 8:
        return []
    values = (m * 10.0**k for k in range(first, last + 1) for m in range(2, 10))
    return [v for v in values if low <= v <= high]


def power_label(exponent: int) -> str:
    """Write a power of ten: plainly from 0.001 to 1000, else as ``1e-4``."""
    return f"{10.0**exponent:,.{max(0, -exponent)}f}" if -3 <= exponent <= 3 else f"1e{exponent}"


def format_value(value: float, digits: int = 3) -> str:
    """Write a number with ``digits`` significant digits, as short as stays readable."""
    if not math.isfinite(value):
        return "-"
    if value == 0.0:
        return "0"
    if 1e-3 <= abs(value) < 1e6:
        exponent = math.floor(math.log10(abs(value)))
        text = f"{value:,.{max(0, digits - 1 - exponent)}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return _scientific(value, digits - 1)


def _scientific(value: float, digits: int) -> str:
    """Write ``1.5e-4``: no padded exponent, no trailing zeros."""
    mantissa, exponent = f"{value:.{digits}e}".split("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}e{int(exponent)}"


def nice_range(values: np.ndarray, pad: float = 0.06) -> tuple[float, float]:
    """Return axis limits around the finite values, with ``pad`` of the span free at both ends.

    Always usable: an empty, constant or single value gets an interval of its own size around it.
    """
    present = values[np.isfinite(values)]
    if len(present) == 0:
        return 0.0, 1.0
    low, high = float(present.min()), float(present.max())
    size = max(abs(low), abs(high))
    if high - low <= 1e-9 * size or high - low < 1e-290:
        half = 0.5 * size if size > 1e-290 else 0.5
        middle = 0.5 * low + 0.5 * high
        return middle - half, middle + half
    return low - pad * (high - low), high + pad * (high - low)
