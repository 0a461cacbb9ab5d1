"""Colours: the two themes and the colour-blind-safe palette."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Color = tuple[int, int, int]
"""Red, green, blue in 0..255."""

ThemeName = Literal["light", "dark"]

BLACK: Color = (0, 0, 0)
ORANGE: Color = (230, 159, 0)
SKY_BLUE: Color = (86, 180, 233)
GREEN: Color = (0, 158, 115)
YELLOW: Color = (240, 228, 66)
BLUE: Color = (0, 114, 178)
VERMILLION: Color = (213, 94, 0)
PURPLE: Color = (204, 121, 167)
"""Source: Okabe and Ito 2008, "Color Universal Design", told apart with any colour vision."""


@dataclass(frozen=True, kw_only=True)
class Theme:
    """Every colour of a picture."""

    background: Color
    plot: Color
    """Behind the curves."""
    text: Color
    muted: Color
    """Tick labels and notes."""
    frame: Color
    grid: Color
    series: tuple[Color, ...]
    """In order of use; those that would fade into the background are left out."""
    alert: Color
    """The mark of should_stop."""


THEMES: Mapping[str, Theme] = {
    "light": Theme(
        background=(255, 255, 255),
        plot=(255, 255, 255),
        text=(28, 30, 34),
        muted=(92, 96, 104),
        frame=(120, 124, 132),
        grid=(231, 233, 237),
        series=(BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY_BLUE, BLACK),
        alert=VERMILLION,
    ),
    "dark": Theme(
        background=(27, 29, 33),
        plot=(33, 35, 40),
        text=(236, 238, 241),
        muted=(164, 169, 178),
        frame=(112, 117, 126),
        grid=(53, 56, 63),
        series=(SKY_BLUE, ORANGE, GREEN, PURPLE, YELLOW, VERMILLION, (240, 240, 240)),
        alert=VERMILLION,
    ),
}


def find_theme(name: str) -> Theme:
    """Return a theme by name.

    Raises:
        ValueError: If there is no such theme.
    """
    if name not in THEMES:
        raise ValueError(f"theme must be {' or '.join(THEMES)}, got {name!r}")
    return THEMES[name]
