"""Grids of pictures: prompts down, stages of a training across.

``labelled_grid`` draws one; ``GrowingGrid`` keeps what a run has shown so far, small.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from PIL import Image

from .text import draw_text, wrap_lines
from .theme import ThemeName, find_theme

CELL, LARGEST_CELL = 192, 320
"""Pixels of a picture's longer side: small ones are enlarged to the first, large ones reduced to
the second."""
GAP = 12
HEADING = 40
LABEL = 150
"""Width of the prompts' column in pixels."""
FONT = 15
LINE = 21

MOST_COLUMNS = 12
"""Stages a grid shows; of more, the first, the newest and some evenly between them."""


def labelled_grid(
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Sequence[Sequence[np.ndarray | None]],
    *,
    cell: int = CELL,
    theme: ThemeName = "light",
) -> Image.Image:
    """Draw pictures in a grid with a heading over each column and a text beside each row.

    Args:
        rows: One text a row.
        columns: One heading a column.
        cells: Rows of pictures, each uint8 ``(H, W, 3)``; None leaves its place empty.
        cell: Longer side of a drawn picture in pixels.
        theme: Colours around the pictures.
    """
    colors = find_theme(theme)
    width = LABEL + len(columns) * (cell + GAP) + GAP
    grid = Image.new("RGB", (width, HEADING + len(rows) * (cell + GAP)), colors.background)
    for column, heading in enumerate(columns):
        middle = LABEL + column * (cell + GAP) + GAP + cell / 2
        draw_text(grid, middle, HEADING / 2, heading, FONT, colors.text, "mm")
    for row, (text, pictures) in enumerate(zip(rows, cells, strict=True)):
        top = HEADING + row * (cell + GAP)
        lines = wrap_lines(text, FONT, LABEL - GAP, cell // LINE) or ["(no prompt)"]
        for number, line in enumerate(lines):
            y = top + cell / 2 + (number - (len(lines) - 1) / 2) * LINE
            draw_text(grid, GAP, y, line, FONT, colors.muted, "lm")
        for column, pixels in enumerate(pictures):
            if pixels is None:
                continue
            picture = fitted(pixels, cell)
            left = LABEL + column * (cell + GAP) + GAP
            grid.paste(
                picture, (left + (cell - picture.width) // 2, top + (cell - picture.height) // 2)
            )
    return grid


def fitted(pixels: np.ndarray, cell: int) -> Image.Image:
    """Return a picture, uint8 ``(H, W, 3)``, whose longer side is ``cell`` pixels."""
    picture = Image.fromarray(pixels)
    scale = cell / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)


class GrowingGrid:
    """The pictures of a run as a grid of bounded size, however long the run is."""

    def __init__(self) -> None:
        self._columns: dict[int, Mapping[str, np.ndarray]] = {}

    @property
    def steps(self) -> list[int]:
        """The steps that have a column."""
        return list(self._columns)

    def add(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """Add a column, or replace the one of its step.

        Args:
            step: Later than all others, or one of them.
            pictures: Prompt -> picture, uint8 ``(H, W, 3)``; kept reduced.
        """
        self._columns[step] = {text: reduced(pixels) for text, pixels in pictures.items()}
        for dropped in self._columns.keys() - set(thinned(list(self._columns))):
            del self._columns[dropped]

    def draw(self, prompts: Sequence[str], theme: ThemeName = "light") -> Image.Image:
        """Draw the prompts' rows; a prompt that a step did not have leaves an empty place."""
        shown = [pixels for column in self._columns.values() for pixels in column.values()]
        cell = min(LARGEST_CELL, max(CELL, *(max(pixels.shape[:2]) for pixels in shown)))
        return labelled_grid(
            prompts,
            [f"step {step}" for step in self._columns],
            [[column.get(text) for column in self._columns.values()] for text in prompts],
            cell=cell,
            theme=theme,
        )


def thinned(steps: Sequence[int], most: int = MOST_COLUMNS) -> list[int]:
    """Return at most ``most`` of some ascending steps: the ends, and evenly some between.

    Adding a step to those returned and thinning again gives what thinning all of them gives.
    """
    kept: list[int] = []
    for step in steps:
        kept.append(step)
        if len(kept) > most:
            gaps = [after - before for before, after in pairwise(kept)]
            closed = [one + other for one, other in pairwise(gaps)]
            del kept[1 + closed.index(min(closed))]
    return kept


def reduced(pixels: np.ndarray) -> np.ndarray:
    """Return a picture, uint8 ``(H, W, 3)``, no larger than a cell."""
    if max(pixels.shape[:2]) <= LARGEST_CELL:
        return pixels
    return np.asarray(fitted(pixels, LARGEST_CELL))
