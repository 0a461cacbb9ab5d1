import numpy as np
import pytest
from PIL import Image

from trustopt import fonts
from trustopt.data import lettering
from trustopt.data.lettering import draw_line, readable, runs, shorten, text_width, wrap


@pytest.fixture
def no_system_fonts(monkeypatch):
    """A machine without any font but Pillow's own."""
    caches = (lettering.runs, lettering._font_name, lettering._has_picture)
    for cache in caches:
        cache.cache_clear()
    monkeypatch.setattr(lettering, "system_font", lambda name, size: None)
    yield
    for cache in caches:
        cache.cache_clear()


def ink(text: str) -> np.ndarray:
    """Return the pixels of a line that are not background, size 14."""
    image = Image.new("RGB", (400, 40))
    draw_line(image, 5, 28, text, 14, (255, 255, 255))
    return np.asarray(image).any(axis=2)


def test_latin_text_is_as_it_is_and_stands_on_its_baseline() -> None:
    assert readable("a  cat,\nsitting") == "a cat, sitting"
    rows, columns = np.nonzero(ink("HHH"))
    assert rows.max() == 27
    assert columns.min() >= 5
    assert abs(columns.max() - columns.min() - text_width("HHH", 14)) <= 4


def test_text_no_font_has_is_named(no_system_fonts) -> None:
    assert readable("zxq 猫が 窓 cat") == "zxq [3 characters] cat"
    assert readable("猫") == "[1 character]"
    assert readable("cat \U0001f63a!") == "cat [smiling cat face with open mouth]!"
    assert readable("cafe\u0301 \u00fcber") == "cafe uber"
    # A family of emoji is joined, coloured and chosen by characters that show nothing.
    assert readable("\U0001f469\U0001f3fd\u200d\U0001f680\ufe0f") == "[woman] [rocket]"
    assert all(run.font.path == fonts.built_in(14).path for run in runs(readable("猫 é"), 14))


def test_what_is_named_can_be_drawn(no_system_fonts) -> None:
    named = readable("猫 \U0001f63a é ж ع \u20ac")
    assert named.isascii()
    assert ink(named).any()


def test_any_font_of_the_system_is_used() -> None:
    available = [n for n in fonts.SYSTEM_FONTS if fonts.system_font(n, fonts.COVERAGE_SIZE)]
    if not available:
        pytest.skip("this machine has none of the fonts looked for")
    name = next((n for n in available if "CJK" in n), available[-1])
    text = "猫と犬" if "CJK" in name else "кот"
    assert readable(text) == text
    [run] = runs(text, 14)
    assert run.font.getname()[0] == fonts.system_font(name, 14).getname()[0]
    missing = ink("\uffff" * len(text))
    assert not np.array_equal(ink(text), missing)
    # Latin letters beside it keep the built-in font.
    assert [r.text for r in runs(f"a {text}", 14)] == ["a ", text]


def test_pictures_of_one_size_are_scaled(monkeypatch) -> None:
    """Google's and Apple's emoji exist at one size only; any font stands in for them here."""
    lettering.runs.cache_clear()
    lettering._font_name.cache_clear()
    lettering._has_picture.cache_clear()
    drawn = fonts.built_in(fonts.STRIKES[0])

    def only_strike(name: str, size: int):
        return drawn if name == fonts.EMOJI_FONTS[1] and size == fonts.STRIKES[0] else None

    monkeypatch.setattr(lettering, "system_font", only_strike)
    built_in = fonts.built_in(fonts.COVERAGE_SIZE)
    monkeypatch.setattr(lettering, "covers", lambda font, text: font is not built_in or text != "@")
    try:
        letter, emoji = runs("a@", 14)
        assert (letter.scale, emoji.scale) == (1.0, 14 / fonts.STRIKES[0])
        assert abs(emoji.width - fonts.built_in(14).getlength("@")) < 1.5
        rows, _ = np.nonzero(ink("@"))
        assert 14 <= rows.min() < rows.max() <= 33  # one line high, at the baseline of 28
    finally:
        lettering.runs.cache_clear()
        lettering._font_name.cache_clear()
        lettering._has_picture.cache_clear()


def test_lines_end_between_words() -> None:
    text = "a photograph of a cat lying on a windowsill in the sun"
    lines = wrap(text, 13, 120, 10)
    assert " ".join(lines) == text
    assert len(lines) > 2
    assert all(text_width(line, 13) <= 120 for line in lines)


def test_lines_end_anywhere_in_scripts_without_spaces_but_never_before_a_full_stop() -> None:
    parts = lettering._parts("猫が窓、犬。a cat")
    assert parts == ["猫", "が", "窓、", "犬。", "a ", "cat"]


def test_words_longer_than_a_line_are_broken() -> None:
    lines = wrap("x" * 60, 13, 120, 10)
    assert "".join(lines) == "x" * 60
    assert all(text_width(line, 13) <= 120 for line in lines)


def test_what_does_not_fit_is_cut_off() -> None:
    text = "a photograph of a cat lying on a windowsill in the sun"
    lines = wrap(text, 13, 120, 2)
    assert len(lines) == 2
    assert lines[1].endswith("…")
    assert text.startswith(" ".join(lines)[:-1])
    assert all(text_width(line, 13) <= 120 for line in lines)
    assert wrap("", 13, 120, 2) == []
    assert wrap("a cat", 13, 120, 2) == ["a cat"]


def test_a_short_text_stays_and_a_long_one_ends_in_dots() -> None:
    assert shorten("a cat", 13, 120) == "a cat"
    cut = shorten("a very long name of a file indeed", 13, 120)
    assert cut.endswith("…")
    assert text_width(cut, 13) <= 120
