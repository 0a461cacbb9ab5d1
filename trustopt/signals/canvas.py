"""A picture being drawn: antialiased shapes in float32, then text on top."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from . import raster, text
from .theme import Color, Theme, find_theme


@dataclass(frozen=True, kw_only=True)
class Style:
    """Theme and sizes; every length is in pixels and follows the picture's size."""

    theme: Theme
    scale: float
    """1 at 1280 x 960 pixels."""

    def px(self, length: float) -> int:
        """Return a length given at scale 1, at least one pixel."""
        return max(1, round(length * self.scale))

    @property
    def title_size(self) -> int:
        """Font size of the heading."""
        return self.px(23)

    @property
    def label_size(self) -> int:
        """Font size of panel titles and legends."""
        return max(12, self.px(18))

    @property
    def tick_size(self) -> int:
        """Font size of tick labels and notes."""
        return max(11, self.px(16))

    @property
    def bold_radius(self) -> float:
        """Pen radius of the lines that matter."""
        return max(0.75, 1.15 * self.scale)

    @property
    def faint_radius(self) -> float:
        """Pen radius of raw values behind their average."""
        return max(0.4, 0.55 * self.scale)


def make_style(size: tuple[int, int], theme: str, *, scale: float | None = None) -> Style:
    """Return the style of a picture.

    Args:
        size: Width and height in pixels.
        theme: ``light`` or ``dark``.
        scale: Size of text and lines; by default that of the picture's area.

    Raises:
        ValueError: If the theme is unknown or the size is not usable.
    """
    width, height = size
    if width < 160 or height < 120 or width * height > 2**26:
        raise ValueError(
            f"a picture must have at least 160 x 120 and at most 67 million pixels, "
            f"got {width} x {height}"
        )
    by_area = (width * height / (1280 * 960)) ** 0.5
    return Style(theme=find_theme(theme), scale=by_area if scale is None else scale)


class Canvas:
    """An RGB picture; x grows to the right, y downwards, both in pixels from the top left."""

    def __init__(self, size: tuple[int, int], style: Style) -> None:
        self.width, self.height = size
        self.style = style
        self._pixels = np.empty((self.height, self.width, 3), np.float32)
        self._pixels[:] = style.theme.background
        self._texts: list[tuple[float, float, str, int, Color, str]] = []

    def fill(
        self, left: float, top: float, right: float, bottom: float, color: Color, alpha: float = 1.0
    ) -> None:
        """Fill a rectangle; edges snap to whole pixels, so thin lines stay crisp."""
        rows = slice(max(0, round(top)), max(0, round(bottom)))
        columns = slice(max(0, round(left)), max(0, round(right)))
        area = self._pixels[rows, columns]
        area += (np.asarray(color, np.float32) - area) * np.float32(alpha)

    def blend(
        self, left: int, top: int, coverage: np.ndarray, color: Color, alpha: float = 1.0
    ) -> None:
        """Paint a colour through a coverage mask ``(rows, columns)``; parts outside are cut off."""
        cut_left, cut_top = max(0, -left), max(0, -top)
        coverage = coverage[cut_top : self.height - top, cut_left : self.width - left]
        if not coverage.size:
            return
        left, top = left + cut_left, top + cut_top
        rows, columns = coverage.shape
        area = self._pixels[top : top + rows, left : left + columns]
        opacity = coverage * np.float32(alpha)
        for channel in range(3):
            plane = area[..., channel]
            plane += (np.float32(color[channel]) - plane) * opacity

    def disc(self, x: float, y: float, radius: float, color: Color) -> None:
        """Paint a filled circle."""
        self.blend(*raster.disc_coverage(x, y, radius), color)

    def text(
        self, x: float, y: float, words: str, size: int, color: Color, anchor: str = "ls"
    ) -> None:
        """Write a line of text, above every shape; anchors are Pillow's (``ls``, ``rm``, ...)."""
        if words:
            self._texts.append((x, y, words, size, color, anchor))

    def say(self, words: str) -> np.ndarray:
        """Write a note in the middle and return the picture: there is nothing else to show."""
        style = self.style
        self.text(self.width / 2, self.height / 2, words, style.label_size, style.theme.muted, "mm")
        return self.render()

    def render(self) -> np.ndarray:
        """Return the picture, uint8 ``(height, width, 3)``."""
        # Adding a half and truncating rounds; np.rint would take another pass.
        self._pixels += np.float32(0.5)
        image = Image.fromarray(self._pixels.astype(np.uint8))
        for line in self._texts:
            text.draw_text(image, *line)
        return np.asarray(image).copy()
