"""Numbers as people read them."""

from typing import Any

from .phrases import Phrase


def duration(seconds: float) -> str:
    """Return a time span to read: ``1 h 23 min``, ``56 min``, ``3 min 20 s``, ``45 s``."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return Phrase("{hours} h {minutes} min", hours=minutes // 60, minutes=minutes % 60)
    if minutes >= 10:
        return Phrase("{minutes} min", minutes=minutes)
    if minutes:
        return Phrase("{minutes} min {seconds} s", minutes=minutes, seconds=rest)
    return Phrase("{seconds} s", seconds=rest)


def scientific(value: float) -> str:
    """Return a learning rate as people write it: ``2.5e-4``; ``0.01`` and above stay plain."""
    if value >= 0.01:
        return f"{value:g}"
    mantissa, exponent = f"{value:.3e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def shown(name: str, value: Any) -> str:
    """Return a plan's value to read, by its name in ``VALUES``."""
    if name == "lr":
        return scientific(value)
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else f"{value}"


def short(value: float) -> str:
    """Return a number with one decimal below 10, without above."""
    return f"{value:.0f}" if value >= 10.0 else f"{value:.1f}"
