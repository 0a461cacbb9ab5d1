import numpy as np
from PIL import Image

from trustopt.signals.text import draw_text, fit, text_width, wrap_lines


def ink(text: str, anchor: str = "ls", x: float = 50, y: float = 30) -> np.ndarray:
    image = Image.new("RGB", (200, 60), (255, 255, 255))
    draw_text(image, x, y, text, 16, (0, 0, 0), anchor)
    return np.argwhere(np.asarray(image)[..., 0] < 200)


def test_anchors() -> None:
    assert ink("Step", "ls")[:, 1].min() >= 50
    assert ink("Step", "rs", x=150)[:, 1].max() <= 150
    middle = ink("HHHH", "mm", x=100)
    assert abs(middle[:, 1].mean() - 100) < 2
    assert abs(middle[:, 0].mean() - 30) < 2
    assert ink("H", "ls")[:, 0].max() <= 30
    assert ink("H", "la")[:, 0].min() >= 29


def test_width_is_that_of_the_ink() -> None:
    columns = ink("moving averages", "ls", x=10)[:, 1]
    assert abs((columns.max() - columns.min()) - text_width("moving averages", 16)) <= 4


def test_long_names_are_cut_with_an_ellipsis() -> None:
    name = "a run with a very long name indeed"
    cut = fit(name, 16, 100)

    assert cut.endswith("…")
    assert name.startswith(cut[:-1])
    assert text_width(cut, 16) <= 100
    assert text_width(cut + "xx", 16) > 100
    assert fit("short", 16, 100) == "short"
    assert fit("short", 16, 0) == ""


def test_letters_the_built_in_font_lacks_are_not_all_the_same_box() -> None:
    # A system font writes them, or their ASCII base letters stand in.
    assert not np.array_equal(ink("é"), ink("ü"))
    assert len(ink("é")) > 0
    assert len(ink("学習")) > 0


def test_lines_break_between_words_and_hold_the_width() -> None:
    text = "a  portrait of a fox,\nsoft light, in the style of old masters"
    lines = wrap_lines(text, 16, 120, 10)
    assert " ".join(lines) == " ".join(text.split())
    assert all(0 < text_width(line, 16) <= 120 for line in lines)
    assert len(lines) > 2
    assert wrap_lines("", 16, 120, 10) == []
    assert wrap_lines("fox", 16, 120, 10) == ["fox"]


def test_what_lines_cannot_hold_ends_in_an_ellipsis() -> None:
    text = "word " * 400
    lines = wrap_lines(text, 16, 120, 3)
    assert len(lines) == 3
    assert lines[-1].endswith("…")
    assert all(text_width(line, 16) <= 120 for line in lines)


def test_words_wider_than_a_line_break_between_characters() -> None:
    for text in ("W" * 60, "学習" * 30):
        lines = wrap_lines(text, 16, 100, 100)
        assert "".join(lines) == text
        assert all(text_width(line, 16) <= 100 for line in lines)
