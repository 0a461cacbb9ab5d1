"""Text for the pictures: Pillow's built-in font, and a system font where a name needs one."""

import functools
import unicodedata

from PIL import Image, ImageDraw, ImageFont

from ..fonts import COVERAGE_SIZE, SYSTEM_FONTS, built_in, covers, system_font
from .theme import Color

ELLIPSIS = "…"

OVERSAMPLING = 4
ASCENT, LINE, CAPITAL = 1.05, 1.4, 0.7
"""Baseline, height of a line and of a capital, in font sizes (roomy enough for CJK fonts)."""


@functools.lru_cache(maxsize=512)
def _resolve(text: str, size: int) -> tuple[str, ImageFont.FreeTypeFont]:
    """Choose a font that can write the text; without one, write what ASCII can of it."""
    if text.isascii() or covers(built_in(COVERAGE_SIZE), text):
        return text, built_in(size)
    for name in SYSTEM_FONTS:
        probe, font = system_font(name, COVERAGE_SIZE), system_font(name, size)
        if probe is not None and font is not None and covers(probe, text):
            return text, font
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "replace").decode()
    return plain, built_in(size)


def text_width(text: str, size: int) -> int:
    """Return the width of a line of text in pixels."""
    return _mask(text, size).width


def fit(text: str, size: int, width: int) -> str:
    """Shorten a text with an ellipsis until it is at most ``width`` pixels wide."""
    if text_width(text, size) <= width:
        return text
    kept = len(text)
    while kept > 0 and text_width(text[:kept].rstrip() + ELLIPSIS, size) > width:
        kept -= 1
    return text[:kept].rstrip() + ELLIPSIS if kept else ""


def wrap_lines(text: str, size: int, width: int, most: int) -> list[str]:
    """Break a text into lines of at most ``width`` pixels, between words where it can.

    What ``most`` lines cannot hold is cut off with an ellipsis. Scripts without spaces break
    between characters.
    """
    lines: list[str] = []
    rest = " ".join(text.split())
    while rest and len(lines) < most:
        count = _count_that_fits(rest, size, width)
        if count == len(rest):
            return [*lines, rest]
        if len(lines) == most - 1:
            return [*lines, fit(rest[: count + 1] + ELLIPSIS, size, width)]
        space = rest.rfind(" ", 0, count + 1)
        end = space if space > 0 else max(1, count)
        lines.append(rest[:end])
        rest = rest[end:].lstrip()
    return lines


def _count_that_fits(text: str, size: int, width: int) -> int:
    """Return how many leading characters are at most ``width`` pixels wide."""
    low, high = 0, min(len(text), width)  # no character is narrower than a pixel
    while low < high:
        middle = (low + high + 1) // 2
        if text_width(text[:middle], size) <= width:
            low = middle
        else:
            high = middle - 1
    return low


@functools.lru_cache(maxsize=1024)
def _mask(text: str, size: int) -> Image.Image:
    """Return the coverage of a line, baseline at ``ASCENT * size`` pixels from the top.

    Drawn large and reduced: at its own size a glyph's advance is rounded to whole pixels, which
    spaces small text unevenly.
    """
    text, font = _resolve(text, size * OVERSAMPLING)
    width = -(-round(font.getlength(text)) // OVERSAMPLING)
    shape = (max(1, width) * OVERSAMPLING, round(LINE * size) * OVERSAMPLING)
    mask = Image.new("L", shape, 0)
    baseline = round(ASCENT * size) * OVERSAMPLING
    ImageDraw.Draw(mask).text((0, baseline), text, fill=255, font=font, anchor="ls")
    return mask.reduce(OVERSAMPLING)


def draw_text(
    image: Image.Image, x: float, y: float, text: str, size: int, color: Color, anchor: str
) -> None:
    """Write a line of text.

    Args:
        image: RGB picture, changed in place.
        x: Anchor point in pixels.
        y: Anchor point in pixels.
        text: One line.
        size: Font size in pixels.
        color: Text colour.
        anchor: As in Pillow, two letters: l, m or r for left, middle or right; a, m or s for top
            of a capital, its middle, or the baseline.
    """
    mask = _mask(text, size)
    left = x - {"l": 0.0, "m": 0.5, "r": 1.0}[anchor[0]] * mask.width
    baseline = y + {"s": 0.0, "m": 0.5, "a": 1.0}[anchor[1]] * CAPITAL * size
    image.paste(color, (round(left), round(baseline) - round(ASCENT * size)), mask)
