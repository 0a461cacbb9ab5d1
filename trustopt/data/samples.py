"""The image set: its pictures with caption, mask and repeats, and what was skipped."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .captions import PLACEHOLDER, has_trigger, with_class_word

Pixels = NDArray[np.uint8]
"""``(H, W, 3)`` RGB, ``(H, W, 4)`` RGBA or, for masks, ``(H, W)``."""


@dataclass(frozen=True)
class FileNote:
    """Something the user should know about one file."""

    file: str
    """Path below the folder, or the name of an array."""
    text: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """One picture to train on."""

    name: str
    """Unique in its set: path below the folder without extension."""
    source: Path | Pixels
    caption: str
    """As written; the set's trigger word is not added yet."""
    width: int
    """Pixels, EXIF orientation applied."""
    height: int
    repeats: int = 1
    """Times the picture is seen an epoch."""
    mask: Path | Pixels | Literal["alpha"] | None = None
    """Where to learn: white or opaque is 1; ``"alpha"`` is the alpha channel of ``source``."""
    is_regularisation: bool = False
    """Shows what the base model should keep doing; trained against the base model's output."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the picture's content, read when first asked for.

        Raises:
            OSError: If the file is gone.
        """
        return _digest(self.source)

    @cached_property
    def mask_digest(self) -> str:
        """SHA-256 of the mask's content; empty without a mask of its own.

        Raises:
            OSError: If the file is gone.
        """
        return "" if self.mask is None or isinstance(self.mask, str) else _digest(self.mask)


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageSet:
    """Pictures in a stable order, and what was said about their files."""

    name: str
    samples: tuple[Sample, ...]
    skipped: tuple[FileNote, ...] = ()
    """Files that are not trained on, each with its reason."""
    notes: tuple[FileNote, ...] = ()
    """Files that are trained on after a conversion or a guess."""
    trigger_word: str = ""
    duplicates: tuple[Sample, ...] = ()
    """Pictures left out because an earlier one has their content and caption."""

    def fingerprint(self) -> str:
        """Return a hash that changes with any picture, caption, mask, repeat or trigger word.

        Raises:
            OSError: If a file is gone.
        """
        content = hashlib.sha256(self.trigger_word.encode())
        for sample in self.samples:
            fields = (
                sample.name,
                sample.digest,
                sample.caption,
                "alpha" if isinstance(sample.mask, str) else sample.mask_digest,
                str(sample.repeats),
                str(sample.is_regularisation),
            )
            content.update("\0".join(fields).encode() + b"\1")
        return content.hexdigest()

    def with_regularisation(self, other: "ImageSet") -> "ImageSet":
        """Return this set plus the pictures of ``other`` as regularisation pictures."""
        kept = tuple(
            replace(s, name=f"{other.name} (regularisation)/{s.name}", is_regularisation=True)
            for s in other.samples
        )
        return replace(
            self,
            samples=self.samples + kept,
            skipped=self.skipped + other.skipped,
            notes=self.notes + other.notes,
        )

    def preserving(self, class_word: str) -> "ImageSet":
        """Return this set plus a copy of each picture that calls its subject by the class word.

        The copies are regularisation pictures: what the class word alone means to the base model,
        it goes on meaning ("differential output preservation"). A set with copies stays as it is.

        Raises:
            ValueError: If the set has no trigger word, which is what the class word stands for.
        """
        if not self.trigger_word:
            raise ValueError(
                f"class_word {class_word!r} needs a trigger word to stand for, and {self.name} has "
                "none: set one where the images are loaded, or leave class_word empty"
            )
        suffix = f" as {class_word}"
        if any(sample.name.endswith(suffix) for sample in self.samples):
            return self
        copies = tuple(
            replace(
                sample,
                name=sample.name + suffix,
                caption=with_class_word(sample.caption, self.trigger_word, class_word),
                is_regularisation=True,
            )
            for sample in self.samples
            if not sample.is_regularisation
        )
        return replace(self, samples=self.samples + copies)

    def report(self) -> str:
        """Return what the folder held, what was skipped and why, and help for captions."""
        training = [s for s in self.samples if not s.is_regularisation]
        lines = [f"{self.name}: {len(training)} images"]
        regularisation = len(self.samples) - len(training)
        masked = sum(s.mask is not None for s in self.samples)
        if regularisation:
            lines[0] += f", {regularisation} regularisation images"
        if masked:
            lines[0] += f", {masked} with a mask"
        lines += [f"skipped {line}" for line in _grouped(self.skipped, most=20)]
        lines += _grouped(self.notes, most=5)
        return "\n".join(lines + self._caption_help(training))

    def _caption_help(self, training: Sequence[Sample]) -> list[str]:
        empty = [s.name for s in training if not s.caption]
        lines = []
        if empty:
            words = f"on {self.trigger_word!r} alone" if self.trigger_word else "without any words"
            lines.append(
                f"{len(empty)} of {len(training)} images have no caption ({listed(empty)}): "
                f"they train {words}. Describe what should stay changeable (pose, place, light) "
                "and leave out what the trigger word itself should mean."
            )
        without = [s.name for s in training if s.caption and not self._has_trigger(s.caption)]
        if without:
            lines.append(
                f"the trigger word {self.trigger_word!r} is missing from {len(without)} of "
                f"{len(training)} captions ({listed(without)}): it is put in front of them"
            )
        return lines

    def _has_trigger(self, caption: str) -> bool:
        return (
            not self.trigger_word
            or PLACEHOLDER in caption
            or has_trigger(caption, self.trigger_word)
        )


def image_set_from_arrays(
    images: Sequence[NDArray[np.floating] | NDArray[np.uint8]],
    captions: Sequence[str] = (),
    *,
    name: str = "images",
    trigger_word: str = "",
    masks: Sequence[NDArray[np.floating] | NDArray[np.uint8] | None] = (),
    repeats: int = 1,
) -> ImageSet:
    """Build a set from pictures in memory.

    Args:
        images: ``(H, W, 3)`` or ``(H, W, 4)`` each, uint8 or float in [0, 1]; alpha is a mask.
        captions: One each, or one for all, or none.
        name: Name of the set; pictures are ``name-0001`` and so on.
        trigger_word: Added to captions that lack it.
        masks: ``(H, W)`` each, uint8 or float in [0, 1], or None; 1 is where to learn.
        repeats: Times each picture is seen an epoch.

    Raises:
        ValueError: If there is no picture, or the counts or shapes do not fit.
    """
    if not len(images):
        raise ValueError(f"{name} holds no image: connect at least one")
    if len(captions) not in (0, 1, len(images)):
        raise ValueError(
            f"{len(captions)} captions for {len(images)} images: give one each, one for all or none"
        )
    if len(masks) not in (0, len(images)):
        raise ValueError(f"{len(masks)} masks for {len(images)} images: give one each or none")
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    captions = list(captions) * len(images) if len(captions) == 1 else captions
    samples = []
    for index, image in enumerate(images):
        label = f"{name}-{index + 1:04d}"
        pixels = _as_uint8(image, label)
        if pixels.ndim != 3 or pixels.shape[2] not in (3, 4):
            raise ValueError(
                f"{label} has shape {pixels.shape}: an image is (height, width, 3 or 4)"
            )
        samples.append(
            Sample(
                name=label,
                source=pixels,
                caption=" ".join(captions[index].split()) if len(captions) else "",
                width=pixels.shape[1],
                height=pixels.shape[0],
                repeats=repeats,
                mask=_array_mask(pixels, masks[index] if len(masks) else None, label),
            )
        )
    return ImageSet(name=name, samples=tuple(samples), trigger_word=trigger_word.strip())


def listed(names: Sequence[str], most: int = 5) -> str:
    """Return the first names and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _grouped(notes: Sequence[FileNote], most: int) -> list[str]:
    """Return one line for each different text, with its files."""
    files: dict[str, list[str]] = {}
    for note in notes:
        files.setdefault(note.text, []).append(note.file)
    return [f"{listed(names, most)}: {text}" for text, names in files.items()]


def _array_mask(
    pixels: Pixels, mask: NDArray[np.floating] | NDArray[np.uint8] | None, label: str
) -> Pixels | Literal["alpha"] | None:
    if mask is not None:
        if mask.shape != pixels.shape[:2]:
            raise ValueError(
                f"the mask of {label} has shape {mask.shape}, its image {pixels.shape[:2]}: "
                "they must be equal"
            )
        return _as_uint8(mask, f"the mask of {label}")
    return "alpha" if pixels.shape[2] == 4 and (pixels[..., 3] < 255).any() else None


def _as_uint8(values: NDArray[np.floating] | NDArray[np.uint8], label: str) -> Pixels:
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values, dtype=np.uint8)
    if not np.isfinite(values).all():
        raise ValueError(f"{label} holds NaN or infinite values: check the nodes that made it")
    return np.rint(np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8)


def _digest(source: Path | Pixels) -> str:
    content = hashlib.sha256()
    if isinstance(source, Path):
        with source.open("rb") as file:
            while block := file.read(1 << 20):
                content.update(block)
    else:
        content.update(repr(source.shape).encode())
        content.update(np.ascontiguousarray(source).data)
    return content.hexdigest()
