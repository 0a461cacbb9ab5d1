import math

import numpy as np
import pytest

from trustopt.signals.block_norms import compare_block_norms, plot_block_norms
from trustopt.signals.theme import THEMES

SIZE = (640, 320)
FIRST, SECOND, THIRD = THEMES["light"].series[:3]


def where(picture: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    return (picture == color).all(axis=2)


def test_blocks_are_as_long_as_their_norms() -> None:
    norms = {
        "double_blocks.0": 1.0,
        "double_blocks.1": 2.0,
        "single_blocks.0": 3.0,
        "gone": math.nan,
    }
    picture = plot_block_norms(norms, size=SIZE)

    lengths = {}
    for color in (FIRST, SECOND):
        widths = where(picture[60:], color).sum(axis=1)
        rows = np.flatnonzero(widths)
        groups = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
        lengths[color] = [int(widths[group].max()) for group in groups]
    assert len(lengths[FIRST]) == 2
    assert lengths[FIRST][1] / lengths[FIRST][0] == pytest.approx(2.0, rel=0.03)
    assert lengths[SECOND][0] / lengths[FIRST][0] == pytest.approx(3.0, rel=0.03)
    assert not where(picture[60:], THIRD).any()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("count", [0, 1, 57, 722])
def test_any_number_of_blocks_is_drawn(count: int, theme: str) -> None:
    norms = {f"output_blocks.{i}.very.long.name.of.a.layer": float(i) for i in range(count)}
    picture = plot_block_norms(norms, size=SIZE, theme=theme)

    assert picture.shape == (320, 640, 3)
    assert where(picture, THEMES[theme].series[0]).any() == (count > 1)


def test_a_negative_norm_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 0, got -1\.0 for 'a'"):
        plot_block_norms({"a": -1.0})


def columns(picture: np.ndarray, color: tuple[int, int, int]) -> list[float]:
    """Return the middle columns of the dots of a colour, from top to bottom."""
    rows = np.flatnonzero(where(picture[60:], color).any(axis=1))
    groups = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
    spots = [np.flatnonzero(where(picture[60:], color)[group].any(axis=0)) for group in groups]
    return [float(spot.mean()) for spot in spots]


def test_runs_are_dots_at_their_norms() -> None:
    norms = {"a": [1.0, 4.0], "b": [2.0, math.nan], "c": [3.0, 0.0]}
    picture = compare_block_norms(norms, ["first", "second"], size=SIZE)

    first, second = columns(picture, FIRST), columns(picture, SECOND)
    zero = second[-1]
    assert len(first) == 3
    assert len(second) == 2
    steps = [(x - zero) / (first[0] - zero) for x in (*first, second[0])]
    assert steps == pytest.approx([1.0, 2.0, 3.0, 4.0], rel=0.03)


def test_more_runs_than_colours_are_rings() -> None:
    count = len(THEMES["light"].series) + 1
    runs = [f"run {index}" for index in range(count)]
    picture = compare_block_norms({"a": list(range(1, count + 1))}, runs, size=(1280, 640))

    plot = picture[80:]
    row = where(plot, FIRST).any(axis=1)
    middle = round(float(np.flatnonzero(row).mean()))
    hit = np.flatnonzero(where(plot, FIRST)[middle])
    groups = np.split(hit, np.flatnonzero(np.diff(hit) > 1) + 1)
    assert len(groups) == 3  # a dot, and the two sides of a ring


@pytest.mark.parametrize("count", [0, 1, 66, 722])
def test_any_number_of_blocks_is_compared(count: int) -> None:
    norms = {f"te2.{i}": [float(i + 2), 1.0] for i in range(count)}
    picture = compare_block_norms(norms, ["a", "b"], size=SIZE, theme="dark")

    assert picture.shape == (320, 640, 3)
    assert where(picture[60:], THEMES["dark"].series[0]).any() == (count > 0)


def test_every_block_has_a_norm_a_run() -> None:
    with pytest.raises(ValueError, match="'a' needs 2 norms, one a run, got 1"):
        compare_block_norms({"a": [1.0]}, ["first", "second"])
    with pytest.raises(ValueError, match=r"at least 0, got -1\.0 for 'a of second'"):
        compare_block_norms({"a": [1.0, -1.0]}, ["first", "second"])
