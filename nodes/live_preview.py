"""The picture on a training node for pages without the panel: the plot, the newest samples."""

import time
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ..trustopt.signals.picture_grid import fitted
from ..trustopt.signals.plots import preview
from ..trustopt.signals.recorder import Recorder
from ..trustopt.signals.theme import THEMES
from .throttle import Throttle

PLOT_SECONDS = 0.5
PLOT_SHARE = 0.05
"""Drawing takes at most this share of the time, however slow the machine."""
PREVIEW_SIZE = (512, 320)
GAP = 8
MOST_TILES = 4
LARGEST_TILE = 200
"""Pixels of a sample's longer side."""

Preview = tuple[str, Image.Image, int]
"""What ComfyUI's progress bars take: format, picture, longest side."""


class LivePreview:
    """Draws the plot no more often than it should, and the newest samples below it."""

    def __init__(self) -> None:
        self._plots = Throttle(PLOT_SECONDS)
        self._plot: Image.Image | None = None
        self._samples: Image.Image | None = None

    def plot(self, recorder: Recorder, *, is_end: bool) -> Preview | None:
        """Draw what has been recorded; None if that is not due."""
        if not (self._plots.due() or is_end):
            return None
        started = time.monotonic()
        self._plot = Image.fromarray(preview(recorder.signals(), PREVIEW_SIZE))
        self._plots.delay((time.monotonic() - started) / PLOT_SHARE)
        return self._joined()

    def samples(self, pictures: Sequence[np.ndarray]) -> Preview:
        """Show new sample pictures, uint8 ``(H, W, 3)``; the first few of many."""
        self._samples = row_of(pictures[:MOST_TILES], PREVIEW_SIZE[0])
        return self._joined()

    def _joined(self) -> Preview:
        parts = [part for part in (self._plot, self._samples) if part is not None]
        height = sum(part.height for part in parts)
        joined = Image.new("RGB", (PREVIEW_SIZE[0], height))
        top = 0
        for part in parts:
            joined.paste(part, (0, top))
            top += part.height
        return "JPEG", joined, max(joined.size)


def row_of(pictures: Sequence[np.ndarray], width: int) -> Image.Image:
    """Return pictures side by side, in the middle of a row."""
    room = (width - GAP) // len(pictures) - GAP
    tiles = [fitted(pixels, min(LARGEST_TILE, room)) for pixels in pictures]
    height = max(tile.height for tile in tiles) + 2 * GAP
    row = Image.new("RGB", (width, height), THEMES["dark"].background)
    left = (width - sum(tile.width + GAP for tile in tiles) + GAP) // 2
    for tile in tiles:
        row.paste(tile, (left, (height - tile.height) // 2))
        left += tile.width + GAP
    return row
