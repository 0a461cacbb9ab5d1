"""Mirrors trustopt/signals/picture_grid.py."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trustopt.signals.picture_grid import (
    CELL,
    GAP,
    HEADING,
    LABEL,
    LARGEST_CELL,
    MOST_COLUMNS,
    GrowingGrid,
    labelled_grid,
    reduced,
    thinned,
)
from trustopt.signals.theme import THEMES


def plain(color: tuple[int, int, int], width: int = 64, height: int = 64) -> np.ndarray:
    return np.full((height, width, 3), color, np.uint8)


def cell_of(grid: np.ndarray, row: int, column: int, cell: int = CELL) -> np.ndarray:
    top, left = HEADING + row * (cell + GAP), LABEL + GAP + column * (cell + GAP)
    return grid[top : top + cell, left : left + cell]


def test_each_picture_stands_in_its_row_and_column() -> None:
    red, green, blue = plain((255, 0, 0)), plain((0, 255, 0)), plain((0, 0, 255))
    grid = np.asarray(labelled_grid(["a", "b"], ["one", "two"], [[red, green], [blue, None]]))

    assert (cell_of(grid, 0, 0) == (255, 0, 0)).all()
    assert (cell_of(grid, 0, 1) == (0, 255, 0)).all()
    assert (cell_of(grid, 1, 0) == (0, 0, 255)).all()
    assert (cell_of(grid, 1, 1) == THEMES["light"].background).all()
    assert (grid[:HEADING, LABEL:] != THEMES["light"].background).any()
    assert (grid[HEADING:, : LABEL - GAP] != THEMES["light"].background).any()


def test_pictures_keep_their_shape_in_the_middle_of_a_cell() -> None:
    grid = np.asarray(labelled_grid(["a"], ["one"], [[plain((255, 0, 0), 64, 32)]], theme="dark"))
    cell = cell_of(grid, 0, 0)
    rows = np.flatnonzero((cell == (255, 0, 0)).all(axis=(1, 2)))
    assert (rows[0], rows[-1]) == (CELL // 4, CELL - CELL // 4 - 1)
    assert (cell[0, 0] == THEMES["dark"].background).all()


def test_a_long_prompt_stays_in_its_row() -> None:
    words = " ".join(f"word{number}" for number in range(300))
    grid = np.asarray(labelled_grid([words, ""], ["one"], [[None], [None]]))
    between = grid[HEADING + CELL : HEADING + CELL + GAP]
    assert (between == THEMES["light"].background).all()
    assert (grid[:, LABEL + GAP :][HEADING:] == THEMES["light"].background).all()


@pytest.mark.parametrize(("side", "cell"), [(64, CELL), (256, 256), (1024, LARGEST_CELL)])
def test_cells_are_as_large_as_pictures_within_bounds(side, cell) -> None:
    grid = GrowingGrid()
    grid.add(0, {"a": plain((9, 9, 9), side, side // 2)})
    assert grid.draw(["a"]).size == (LABEL + 2 * GAP + cell, HEADING + cell + GAP)


def test_a_grid_grows_and_a_step_made_again_replaces_its_column() -> None:
    grid = GrowingGrid()
    grid.add(0, {"a": plain((255, 0, 0))})
    grid.add(5, {"a": plain((0, 255, 0)), "b": plain((0, 0, 255))})
    grid.add(5, {"a": plain((9, 9, 9)), "b": plain((0, 0, 255))})
    assert grid.steps == [0, 5]
    drawn = np.asarray(grid.draw(["b", "a"]))
    assert (cell_of(drawn, 0, 0) == THEMES["light"].background).all()  # step 0 had no prompt b
    assert (cell_of(drawn, 0, 1) == (0, 0, 255)).all()
    assert (cell_of(drawn, 1, 0) == (255, 0, 0)).all()
    assert (cell_of(drawn, 1, 1) == (9, 9, 9)).all()


def test_a_grid_of_a_long_run_stays_small() -> None:
    grid = GrowingGrid()
    for step in range(0, 2001, 10):
        grid.add(step, {"a": plain((1, 2, 3), 8, 8)})
    assert len(grid.steps) == MOST_COLUMNS
    assert (grid.steps[0], grid.steps[-1]) == (0, 2000)
    gaps = np.diff(grid.steps[:-1])
    assert gaps.max() <= 2.01 * gaps.min()


@given(st.sets(st.integers(0, 1000), max_size=60).map(sorted), st.integers(3, 12))
def test_thinning_as_it_grows_is_thinning_at_once(steps, most) -> None:
    kept: list[int] = []
    for step in steps:
        kept = thinned([*kept, step], most)
    assert kept == thinned(steps, most)
    assert len(kept) == min(len(steps), most)
    assert kept == sorted(kept)
    assert kept[:1] + kept[-1:] == steps[:1] + steps[-1:]


def test_small_pictures_are_not_copied_and_large_ones_are_reduced() -> None:
    small = plain((1, 1, 1))
    assert reduced(small) is small
    assert reduced(plain((1, 1, 1), 1024, 512)).shape == (LARGEST_CELL // 2, LARGEST_CELL, 3)
