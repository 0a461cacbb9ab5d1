"""A labelled grid of pictures: prompts down, stages across."""

from collections.abc import Sequence
from textwrap import wrap

import numpy as np
from PIL import Image

from ..signals.text import draw_text
from ..signals.theme import THEMES

CELL = 192
"""Pixels of a picture's longer side; smaller ones are enlarged, larger ones reduced."""
GAP = 12
HEADING = 40
LABEL = 150
"""Width of the prompts' column in pixels."""
FONT = 15


def labelled_grid(
    rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[np.ndarray]]
) -> Image.Image:
    """Draw pictures in a grid with a heading over each column and a text beside each row.

    Args:
        rows: One text a row.
        columns: One heading a column.
        cells: Rows of pictures, each uint8 ``(H, W, 3)``.
    """
    theme = THEMES["light"]
    width = LABEL + len(columns) * (CELL + GAP) + GAP
    grid = Image.new("RGB", (width, HEADING + len(rows) * (CELL + GAP)), theme.background)
    for column, heading in enumerate(columns):
        middle = LABEL + column * (CELL + GAP) + GAP + CELL / 2
        draw_text(grid, middle, HEADING / 2, heading, FONT, theme.text, "mm")
    for row, (text, pictures) in enumerate(zip(rows, cells, strict=True)):
        top = HEADING + row * (CELL + GAP)
        lines = wrap(text, width=round(LABEL / FONT * 1.9)) or ["(no prompt)"]
        for number, line in enumerate(lines):
            y = top + CELL / 2 + (number - (len(lines) - 1) / 2) * FONT * 1.4
            draw_text(grid, GAP, y, line, FONT, theme.muted, "lm")
        for column, pixels in enumerate(pictures):
            picture = fitted(pixels)
            left = LABEL + column * (CELL + GAP) + GAP
            grid.paste(
                picture, (left + (CELL - picture.width) // 2, top + (CELL - picture.height) // 2)
            )
    return grid


def fitted(pixels: np.ndarray) -> Image.Image:
    """Return a picture whose longer side is a cell's."""
    picture = Image.fromarray(pixels)
    scale = CELL / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)
