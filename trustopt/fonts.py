"""Fonts to draw text with: Pillow's own, and the system's where it lacks a letter.

Pillow finds a system font by its file's name; nothing is bundled or downloaded.
"""

import functools

from PIL import Image, ImageDraw, ImageFont

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
"""Tried in this order for what the built-in font lacks (it is ASCII)."""

EMOJI_FONTS = ("seguiemj.ttf", "NotoColorEmoji.ttf", "Apple Color Emoji.ttc", "NotoEmoji.ttf")
"""Tried in this order for emoji."""

STRIKES = (109, 160)
"""The sizes in pixels at which Google's and Apple's emoji are stored, as pictures."""

COVERAGE_SIZE = 16
"""Size at which fonts are asked for their glyphs."""


@functools.lru_cache(maxsize=32)
def built_in(size: int) -> ImageFont.FreeTypeFont:
    """Return Pillow's own font at a size in pixels."""
    font = ImageFont.load_default(size=size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return font


@functools.lru_cache(maxsize=64)
def system_font(name: str, size: int) -> ImageFont.FreeTypeFont | None:
    """Return a font of the system by its file's name; None where it is not installed."""
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


@functools.lru_cache(maxsize=512)
def covers(font: ImageFont.FreeTypeFont, text: str) -> bool:
    """Tell whether the font has a glyph of its own for every character."""
    # U+FFFF is never a character: every font draws it as "missing".
    missing = _glyph(font, "\uffff")
    return all(_glyph(font, character) != missing for character in set(text) - {" "})


def _glyph(font: ImageFont.FreeTypeFont, character: str) -> bytes:
    """Return the pixels of one character in a square of its own."""
    side = 2 * max(COVERAGE_SIZE, round(font.size))
    square = Image.new("L", (side, side))
    ImageDraw.Draw(square).text((0, 0), character, fill=255, font=font)
    return square.tobytes()
