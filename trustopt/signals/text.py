"""Text for the pictures: Pillow's built-in font, and a system font where a name needs one."""

import functools
import unicodedata

from PIL import Image, ImageDraw, ImageFont

from .theme import Color

SYSTEM_FONTS = (
    "NotoSansCJK-Regular.ttc",
    "YuGothM.ttc",
    "meiryo.ttc",
    "msgothic.ttc",
    "msyh.ttc",
    "malgun.ttf",
    "Hiragino Sans GB.ttc",
    "AppleSDGothicNeo.ttc",
    "NotoSerifCJK-Regular.ttc",
    "Arial Unicode.ttf",
    "DejaVuSans.ttf",
    "arial.ttf",
)
"""Tried in this order for a run named in a script the built-in font lacks (it is ASCII)."""

ELLIPSIS = "…"

COVERAGE_SIZE = 16
"""Size at which fonts are asked for their glyphs."""

OVERSAMPLING = 4
ASCENT, LINE, CAPITAL = 1.05, 1.4, 0.7
"""Baseline, height of a line and of a capital, in font sizes (roomy enough for CJK fonts)."""


@functools.lru_cache(maxsize=32)
def _built_in(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size=size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return font


@functools.lru_cache(maxsize=64)
def _system(name: str, size: int) -> ImageFont.FreeTypeFont | None:
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


@functools.lru_cache(maxsize=512)
def _covers(font: ImageFont.FreeTypeFont, text: str) -> bool:
    """Tell whether the font has a glyph of its own for every character."""
    # U+FFFF is never a character: every font draws it as "missing".
    missing = _glyph(font, "\uffff")
    return all(_glyph(font, character) != missing for character in set(text) - {" "})


def _glyph(font: ImageFont.FreeTypeFont, character: str) -> bytes:
    """Return the pixels of one character in a square of its own."""
    square = Image.new("L", (2 * COVERAGE_SIZE, 2 * COVERAGE_SIZE))
    ImageDraw.Draw(square).text((0, 0), character, fill=255, font=font)
    return square.tobytes()


@functools.lru_cache(maxsize=512)
def _resolve(text: str, size: int) -> tuple[str, ImageFont.FreeTypeFont]:
    """Choose a font that can write the text; without one, write what ASCII can of it."""
    if text.isascii() or _covers(_built_in(COVERAGE_SIZE), text):
        return text, _built_in(size)
    for name in SYSTEM_FONTS:
        probe, font = _system(name, COVERAGE_SIZE), _system(name, size)
        if probe is not None and font is not None and _covers(probe, text):
            return text, font
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "replace").decode()
    return plain, _built_in(size)


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
