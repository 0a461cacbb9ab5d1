"""What is learned: a style, from a few pictures, where the truth of many others is known."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...data import ImageSet, image_set_from_arrays
from ...data.captions import with_trigger

SIDE = 64
TRIGGER_WORD = "twemoji"
CATEGORIES = ("Animals & Nature", "Food & Drink", "Activities", "Travel & Places", "Objects")
"""Of the emoji taken: the tiny model knows their names, and their shapes show a style."""

SPLIT_SEED = 7
"""Of the split in trained and held out: the same for every trial."""


@dataclass(frozen=True)
class Task:
    """Pictures to learn a style from, and others to judge it by.

    Attributes:
        names: Of the held-out pictures.
        truth: The held-out pictures themselves, each uint8 ``(64, 64, 3)``.
        training: The set trained on.
        held_out: The held-out pictures as a set, for their denoising loss.
    """

    names: tuple[str, ...]
    truth: tuple[NDArray[np.uint8], ...]
    training: ImageSet
    held_out: ImageSet

    @property
    def size(self) -> list[int]:
        """Pictures trained on, and held out."""
        return [len(self.training.samples), len(self.held_out.samples)]

    @property
    def prompts(self) -> list[str]:
        """What asks for the held-out pictures."""
        return [with_trigger(name, TRIGGER_WORD) for name in self.names]


def read_task(package: Path, *, trained: int = 20, held_out: int = 24) -> Task:
    """Read the style task from the unpacked npm package ``emoji-datasource-twitter``.

    Args:
        package: The package's folder.
        trained: Pictures to train on.
        held_out: Pictures to judge by; none is trained on.

    Raises:
        ValueError: If the folder is not that package, or has too few pictures.
    """
    table = package / "emoji.json"
    if not table.is_file():
        raise ValueError(
            f"--pictures: {table} does not exist: run npm pack emoji-datasource-twitter, unpack "
            "it, and give its folder package"
        )
    rows = [row for row in json.loads(table.read_text("utf-8")) if is_taken(row)]
    if len(rows) < trained + held_out:
        raise ValueError(
            f"--pictures: {package} has {len(rows)} fitting pictures, {trained + held_out} are "
            "needed: give the whole package"
        )
    order = np.random.default_rng(SPLIT_SEED).permutation(len(rows))
    chosen = [rows[index] for index in order[: trained + held_out]]
    names = [row["name"].lower() for row in chosen]
    pixels = [read_picture(package / "img" / "twitter" / "64" / row["image"]) for row in chosen]
    return Task(
        names=tuple(names[trained:]),
        truth=tuple(pixels[trained:]),
        training=as_set(pixels[:trained], names[:trained], "trained"),
        held_out=as_set(pixels[trained:], names[trained:], "held out"),
    )


def is_taken(row: dict) -> bool:
    """Return whether an emoji of the table is one of the task's."""
    return bool(row["has_img_twitter"]) and row["category"] in CATEGORIES


def as_set(pixels: list[NDArray[np.uint8]], names: list[str], title: str) -> ImageSet:
    """Return pictures with their names as an image set."""
    return image_set_from_arrays(pixels, names, name=title, trigger_word=TRIGGER_WORD)


def read_picture(file: Path) -> NDArray[np.uint8]:
    """Return ``(64, 64, 3)`` uint8 on white."""
    with Image.open(file) as picture:
        drawn = picture.convert("RGBA")
    if drawn.size != (SIDE, SIDE):
        drawn = drawn.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    page = Image.new("RGBA", drawn.size, "white")
    page.alpha_composite(drawn)
    return np.array(page.convert("RGB"))
