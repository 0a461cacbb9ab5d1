"""Captions as drawn text, in any script the system has a font for; broken into lines.

What no font has is named instead of shown as boxes: emoji by their name, letters by their number.
"""

import functools
import itertools
import unicodedata
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from ..fonts import (
    COVERAGE_SIZE,
    EMOJI_FONTS,
    STRIKES,
    SYSTEM_FONTS,
    built_in,
    covers,
    system_font,
)

Colour = tuple[int, int, int]

ELLIPSIS = "…"

SKIN_TONES = frozenset(map(chr, range(0x1F3FB, 0x1F400)))
INVISIBLE = frozenset(("Cc", "Cf", "Cs", "Cn", "Co"))
"""Categories of characters that join others or mean nothing by themselves."""


class Run(NamedTuple):
    """Neighbouring characters that one font writes."""

    text: str
    font: ImageFont.FreeTypeFont
    scale: float = 1.0
    """Below 1 for fonts stored as pictures of one size."""

    @property
    def width(self) -> float:
        """Pixels from its start to the next run's."""
        return self.font.getlength(self.text) * self.scale


def text_width(text: str, size: int) -> float:
    """Return the width of a line in pixels."""
    return sum(run.width for run in runs(text, size))


def draw_line(
    image: Image.Image, x: float, baseline: float, text: str, size: int, colour: Colour
) -> None:
    """Write a line of text into an RGB picture.

    Args:
        image: Changed in place.
        x: Left end in pixels.
        baseline: Pixels from the top.
        text: One line.
        size: Font size in pixels.
        colour: Of everything but coloured emoji.
    """
    draw = ImageDraw.Draw(image)
    for run in runs(text, size):
        if run.scale == 1.0:
            place = (round(x), round(baseline))
            draw.text(place, run.text, colour, run.font, anchor="ls", embedded_color=True)
        else:
            _paste_scaled(image, x, baseline, run, colour)
        x += run.width


def wrap(text: str, size: int, width: int, most_lines: int) -> list[str]:
    """Break a text into lines at most ``width`` pixels wide; what does not fit is cut off.

    Lines end between words, between any two letters of scripts without spaces, and anywhere in a
    word that is too long for a line.
    """
    lines, line = [], ""
    for part in _parts(text):
        for piece in [part] if text_width(part.rstrip(), size) <= width else part:
            if line and text_width(line + piece.rstrip(), size) > width:
                lines.append(line.rstrip())
                line = ""
            if len(lines) == most_lines:
                return [*lines[:-1], shorten(lines[-1] + ELLIPSIS, size, width)]
            line += piece
    return [*lines, line.rstrip()] if line.strip() else lines


def shorten(text: str, size: int, width: int) -> str:
    """Return a text that is at most ``width`` pixels wide, its end replaced by dots if need be."""
    if text_width(text, size) <= width:
        return text
    kept = text.removesuffix(ELLIPSIS)
    while kept and text_width(kept + ELLIPSIS, size) > width:
        kept = kept[:-1]
    return kept.rstrip() + ELLIPSIS


def readable(text: str) -> str:
    """Return the text with whatever no font here can write replaced by words in brackets."""
    text = unicodedata.normalize("NFC", " ".join(text.split()))
    shown = "".join(_spelled(c) for c in text if not _is_invisible(c))
    is_written = [_can_write(c) for c in shown]
    for index in range(1, len(shown) - 1):  # a space within what cannot be written belongs to it
        if shown[index] == " " and not (is_written[index - 1] or is_written[index + 1]):
            is_written[index] = False
    pieces = []
    for can_write, group in itertools.groupby(zip(is_written, shown, strict=True), lambda g: g[0]):
        characters = "".join(character for _, character in group)
        pieces.append(characters if can_write else _described(characters))
    return "".join(pieces)


@functools.lru_cache(maxsize=2048)
def runs(text: str, size: int) -> tuple[Run, ...]:
    """Divide a ``readable`` text by the fonts that write it."""
    foreign = "".join(sorted({c for c in text if not covers(built_in(COVERAGE_SIZE), c)}))
    named = itertools.groupby(text, lambda c: _font_name(c, foreign))
    return tuple(_run("".join(characters), name, size) for name, characters in named)


def _run(text: str, name: str | None, size: int) -> Run:
    font = system_font(name, size) if name else built_in(size)
    if font is not None:
        return Run(text, font)
    for strike in STRIKES:
        font = system_font(name, strike) if name else None
        if font is not None:
            return Run(text, font, size / strike)
    return Run(text, built_in(size))


@functools.lru_cache(maxsize=4096)
def _font_name(character: str, foreign: str) -> str | None:
    """Return the system font for a character, first of all one for the whole text's.

    None is the built-in font, also for what no font has.
    """
    if covers(built_in(COVERAGE_SIZE), character):
        return None
    fonts = [(name, system_font(name, COVERAGE_SIZE)) for name in SYSTEM_FONTS]
    for wanted in (foreign, character):
        for name, font in fonts:
            if font is not None and covers(font, wanted):
                return name
    return next(filter(lambda name: _has_picture(name, character), EMOJI_FONTS), None)


@functools.lru_cache(maxsize=1024)
def _has_picture(name: str, character: str) -> bool:
    """Tell whether an emoji font draws a character: some fonts name one and draw nothing."""
    for size in (COVERAGE_SIZE, *STRIKES):
        font = system_font(name, size)
        if font is not None:
            return covers(font, character) and font.getmask(character).getbbox() is not None
    return False


def _can_write(character: str) -> bool:
    return _font_name(character, character) is not None or covers(
        built_in(COVERAGE_SIZE), character
    )


def _spelled(character: str) -> str:
    """Return the character, or the ASCII letters it is made of where no font has it."""
    if character.isascii() or _can_write(character):
        return character
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return plain or character


def _described(characters: str) -> str:
    """Return what stands for characters without a font: emoji by name, letters by number."""
    symbols = [c for c in characters if unicodedata.category(c) == "So"]
    words = [f"[{unicodedata.name(c, 'symbol').lower()}]" for c in symbols]
    letters = len(characters) - len(symbols) - characters.count(" ")
    if letters:
        words.append(f"[{letters} characters]" if letters > 1 else "[1 character]")
    return " ".join(words)


def _is_invisible(character: str) -> bool:
    is_selector = "\ufe00" <= character <= "\ufe0f"
    return is_selector or character in SKIN_TONES or unicodedata.category(character) in INVISIBLE


def _parts(text: str) -> list[str]:
    """Return the pieces between which a line may end; spaces stay at the end of theirs."""
    parts = [""]
    for character in text:
        if parts[-1].endswith(" ") or _breaks(parts[-1][-1:], character):
            parts.append("")
        parts[-1] += character
    return parts


def _breaks(before: str, after: str) -> bool:
    """Tell whether a line may end between two characters: where East Asian ones stand."""
    if not before or after == " ":
        return False
    is_wide = [unicodedata.east_asian_width(c) in "WF" for c in (before, after)]
    closes = unicodedata.category(after) in ("Po", "Pe", "Pf")  # 、 。 」 never begin a line
    return any(is_wide) and not closes


def _paste_scaled(image: Image.Image, x: float, baseline: float, run: Run, colour: Colour) -> None:
    ascent, descent = run.font.getmetrics()
    size = (max(1, round(run.width / run.scale)), ascent + descent)
    tile = Image.new("RGBA", size, (0, 0, 0, 0))
    ImageDraw.Draw(tile).text((0, 0), run.text, colour, run.font, embedded_color=True)
    scaled = tile.resize(
        (max(1, round(size[0] * run.scale)), max(1, round(size[1] * run.scale))),
        Image.Resampling.LANCZOS,
    )
    image.paste(scaled, (round(x), round(baseline - ascent * run.scale)), scaled)
