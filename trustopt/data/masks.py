"""Mask files beside pictures: ``cat-masklabel.png``, ``cat.mask.png`` or ``masks/cat.png``."""

import re
from collections.abc import Iterable
from pathlib import Path

from .images import EXTENSIONS, UnusablePictureError, inspect_picture

FOLDER = "masks"
BESIDE = re.compile(r"(?P<picture>.+?)(-masklabel|\.mask)\.png", re.IGNORECASE)
"""Names of OneTrainer and of plain habit; ``picture`` may keep its extension."""

LARGEST_DISTORTION = 0.02
"""Relative difference of aspect ratios up to which a mask is stretched onto its picture."""


def is_mask(path: Path) -> bool:
    """Tell whether a file is a mask by its name."""
    return BESIDE.fullmatch(path.name) is not None


def find_masks(beside: Iterable[Path], within: Iterable[Path]) -> dict[str, Path]:
    """Return masks by their pictures' name, with or without its extension.

    Args:
        beside: Files of the pictures' folder.
        within: Files of its ``masks`` folder.
    """
    found = {path.stem: path for path in within if path.suffix.lower() in EXTENSIONS}
    for path in beside:
        if match := BESIDE.fullmatch(path.name):
            found[match["picture"]] = path
    return found


def mask_problem(path: Path, width: int, height: int) -> str:
    """Return why a mask does not fit a picture of this size; empty if it does."""
    try:
        facts = inspect_picture(path)
    except UnusablePictureError as error:
        return str(error)
    distortion = abs(facts.width * height / (facts.height * width) - 1.0)
    if distortion > LARGEST_DISTORTION:
        return f"its shape {facts.width}x{facts.height} is not that of its image, {width}x{height}"
    return ""
