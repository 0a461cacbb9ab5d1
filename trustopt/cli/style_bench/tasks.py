"""What is learned: a style, from a few pictures, where the truth of many others is known."""

import argparse
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...data import ImageSet, image_set_from_arrays
from ...data.captions import with_trigger

SIDE = 64

TWITTER_CATEGORIES = (
    "Animals & Nature",
    "Food & Drink",
    "Activities",
    "Travel & Places",
    "Objects",
)
"""Of the emoji taken: the tiny model knows their names, and their shapes show a style."""

OPENMOJI_GROUPS = ("animals-nature", "food-drink", "activities", "travel-places", "objects")
"""The same, as OpenMoji calls them."""

SPLIT_SEED = 7
"""Of the split in trained and held out: the same for every trial."""

Pixels = NDArray[np.uint8]

Named = tuple[str, Callable[[], Pixels]]
"""A picture's name, and what reads it."""


@dataclass(frozen=True)
class Task:
    """Pictures to learn a style from, and others to judge it by.

    Attributes:
        trigger_word: Calls the style up.
        names: Of the held-out pictures.
        truth: The held-out pictures themselves, each uint8 ``(64, 64, 3)``.
        training: The set trained on.
        held_out: The held-out pictures as a set, for their denoising loss.
    """

    trigger_word: str
    names: tuple[str, ...]
    truth: tuple[Pixels, ...]
    training: ImageSet
    held_out: ImageSet

    @property
    def size(self) -> list[int]:
        """Pictures trained on, and held out."""
        return [len(self.training.samples), len(self.held_out.samples)]

    @property
    def prompts(self) -> list[str]:
        """What asks for the held-out pictures."""
        return [with_trigger(name, self.trigger_word) for name in self.names]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say what is learned."""
    parser.add_argument(
        "--pictures",
        type=Path,
        required=True,
        help="folder of the unpacked npm package emoji-datasource-twitter, or openmoji",
    )
    parser.add_argument("--trained", type=int, default=20, help="pictures to train on")
    parser.add_argument("--held-out", type=int, default=24, help="pictures to judge by")


def read_task(package: Path, *, trained: int = 20, held_out: int = 24) -> Task:
    """Read the style task from an unpacked npm package.

    Args:
        package: Folder of ``emoji-datasource-twitter``, or of ``openmoji``, whose drawings are
            rasterised by the package resvg-py.
        trained: Pictures to train on.
        held_out: Pictures to judge by; none is trained on.

    Raises:
        ValueError: If the folder is neither, or has too few pictures.
    """
    if (package / "emoji.json").is_file():
        word, named = "twemoji", twitter(package)
    elif (package / "data" / "openmoji.json").is_file():
        word, named = "openmoji", openmoji(package)
    else:
        raise ValueError(
            f"--pictures: {package} holds no emoji: run npm pack emoji-datasource-twitter (or "
            "openmoji), unpack it, and give its folder package"
        )
    if len(named) < trained + held_out:
        raise ValueError(
            f"--pictures: {package} has {len(named)} fitting pictures, {trained + held_out} are "
            "needed: give the whole package"
        )
    order = np.random.default_rng(SPLIT_SEED).permutation(len(named))
    chosen = [named[index] for index in order[: trained + held_out]]
    names = [name for name, _ in chosen]
    pixels = [read() for _, read in chosen]
    sets = [
        image_set_from_arrays(pixels[part], names[part], name=title, trigger_word=word)
        for part, title in ((slice(trained), "trained"), (slice(trained, None), "held out"))
    ]
    return Task(word, tuple(names[trained:]), tuple(pixels[trained:]), *sets)


def twitter(package: Path) -> list[Named]:
    """Return the fitting pictures of ``emoji-datasource-twitter``."""
    folder = package / "img" / "twitter" / "64"
    return [
        (row["name"].lower(), lambda file=folder / row["image"]: on_white(Image.open(file)))
        for row in json.loads((package / "emoji.json").read_text("utf-8"))
        if row["has_img_twitter"] and row["category"] in TWITTER_CATEGORIES
    ]


def openmoji(package: Path) -> list[Named]:
    """Return the fitting pictures of ``openmoji``: thin black lines, the finest detail there is.

    Raises:
        ValueError: If resvg-py is missing.
    """
    try:
        import resvg_py
    except ImportError as error:
        raise ValueError("OpenMoji's drawings need a rasteriser: pip install resvg-py") from error

    def drawn(file: Path) -> Pixels:
        png = bytes(resvg_py.svg_to_bytes(svg_path=str(file), width=SIDE, height=SIDE))
        return on_white(Image.open(io.BytesIO(png)))

    rows = json.loads((package / "data" / "openmoji.json").read_text("utf-8"))
    files = {row["hexcode"]: package / "color" / "svg" / f"{row['hexcode']}.svg" for row in rows}
    return [
        (row["annotation"].lower(), lambda file=files[row["hexcode"]]: drawn(file))
        for row in rows
        if row["group"] in OPENMOJI_GROUPS and not row["skintone"]
    ]


def on_white(picture: Image.Image) -> Pixels:
    """Return ``(64, 64, 3)`` uint8."""
    with picture:
        drawn = picture.convert("RGBA")
    if drawn.size != (SIDE, SIDE):
        drawn = drawn.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    page = Image.new("RGBA", drawn.size, "white")
    page.alpha_composite(drawn)
    return np.array(page.convert("RGB"))
