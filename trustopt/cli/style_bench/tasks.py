"""What is learned from a few pictures, where the truth of many others is known.

A style: twenty things in it, judged by others. A subject: one character, the round yellow face, in
twelve expressions, judged by others; its captions keep the noun, as DreamBooth's do, and so what
the model knows of faces. What else it knows should stay as it was.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from ...data import ImageSet, image_set_from_arrays
from ...data.captions import with_trigger
from .packages import Drawing, Package, Pixels, read_package

THINGS = ("animals-nature", "food-drink", "activities", "travel-places", "objects")
"""Groups a style is learned from: the tiny model knows their names, their shapes show a style."""

FACES = (
    "face-smiling",
    "face-affection",
    "face-tongue",
    "face-neutral-skeptical",
    "face-sleepy",
    "face-concerned",
    "face-glasses",
    "face-hand",
    "face-hat",
)
"""Subgroups that are one character: the round yellow face. Ill ones are green, red or blue."""

OTHERS = 24
"""Pictures of other things, to see what is left alone."""

SPLIT_SEED = 7
"""Of the split in trained and held out: the same for every trial."""


@dataclass(frozen=True)
class Kind:
    """A kind of task.

    Attributes:
        purpose: Of the preset.
        trained: Pictures to train on, unless told otherwise.
        fits: Whether a drawing belongs to it.
        trigger_word: None is the style's name.
    """

    purpose: str
    trained: int
    fits: Callable[[Drawing], bool]
    trigger_word: str | None = None


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "style": Kind("style", 20, lambda drawing: drawing.group in THINGS),
        # In the tiny tokenizer the word shares its id with no word of an emoji's name.
        "subject": Kind("character", 12, lambda drawing: drawing.subgroup in FACES, "zed"),
    }
)


@dataclass(frozen=True)
class Task:
    """Pictures to learn from, and others to judge by.

    Attributes:
        name: Whose drawings, and the kind: ``twemoji style``.
        purpose: Of the preset.
        trigger_word: Calls style or subject up.
        names: Of the held-out pictures.
        truth: The held-out pictures themselves, each uint8 ``(64, 64, 3)``.
        training: The set trained on.
        held_out: The held-out pictures as a set, for their denoising loss.
        others: Google's pictures of other things, captioned without trigger word; None without
            Google's package.
    """

    name: str
    purpose: str
    trigger_word: str
    names: tuple[str, ...]
    truth: tuple[Pixels, ...]
    training: ImageSet
    held_out: ImageSet
    others: ImageSet | None

    @property
    def size(self) -> list[int]:
        """Pictures trained on, held out, and of other things."""
        sets = (self.training, self.held_out, self.others)
        return [0 if images is None else len(images.samples) for images in sets]

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
    parser.add_argument(
        "--trained", type=int, help="pictures to train on (20 for a style, 12 for a subject)"
    )
    parser.add_argument("--held-out", type=int, default=24, help="pictures to judge by")


def read_task(
    package: Path,
    kind: str = "style",
    *,
    trained: int | None = None,
    held_out: int = 24,
    noto: Package | None = None,
) -> Task:
    """Read a task from an unpacked npm package.

    Args:
        package: Folder of ``emoji-datasource-twitter``, or of ``openmoji``, whose drawings are
            rasterised by the package resvg-py.
        kind: One of ``KINDS``.
        trained: Pictures to train on; None is the kind's.
        held_out: Pictures to judge by; none is trained on.
        noto: What the base knows, for the pictures of other things.

    Raises:
        ValueError: If the folder is neither, or has too few pictures.
    """
    chosen_kind, source = KINDS[kind], read_package(package, "--pictures")
    trained = chosen_kind.trained if trained is None else trained
    fitting = [drawing for drawing in source.drawings if chosen_kind.fits(drawing)]
    if len(fitting) < trained + held_out:
        raise ValueError(
            f"--pictures: {package} has {len(fitting)} fitting pictures, {trained + held_out} are "
            "needed: give the whole package"
        )
    chosen = shuffled(fitting)[: trained + held_out]
    names = [drawing.name for drawing in chosen]
    pixels = [drawing.read() for drawing in chosen]
    word = chosen_kind.trigger_word or source.style
    sets = [
        image_set_from_arrays(pixels[part], names[part], name=title, trigger_word=word)
        for part, title in ((slice(trained), "trained"), (slice(trained, None), "held out"))
    ]
    return Task(
        name=f"{source.style} {kind}",
        purpose=chosen_kind.purpose,
        trigger_word=word,
        names=tuple(names[trained:]),
        truth=tuple(pixels[trained:]),
        training=sets[0],
        held_out=sets[1],
        others=None if noto is None else other_things(noto, chosen),
    )


def other_things(noto: Package, chosen: Sequence[Drawing]) -> ImageSet:
    """Return Google's pictures of things that are neither trained on nor held out.

    Raises:
        ValueError: If there is none.
    """
    taken = {drawing.code for drawing in chosen}
    things = [d for d in noto.drawings if d.group in THINGS and d.code not in taken]
    shown = shuffled(things)[:OTHERS]
    return image_set_from_arrays([d.read() for d in shown], [d.name for d in shown], name="others")


def shuffled(drawings: Sequence[Drawing]) -> list[Drawing]:
    """Return the drawings in an order that is always the same."""
    order = np.random.default_rng(SPLIT_SEED).permutation(len(drawings))
    return [drawings[index] for index in order]
