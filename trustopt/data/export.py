"""An image set written to a folder, so that ``scan_folder`` there gives the same set again."""

import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from . import masks
from .buckets import Placement
from .folder import REPEATS
from .images import cut_mask, cut_picture
from .samples import ImageSet, Sample

REGULARISATION = " (regularisation)/"
"""What ``ImageSet.with_regularisation`` puts between a set's name and that of a picture."""


def split_regularisation(images: ImageSet) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Return the pictures that are learned, and the regularisation pictures."""
    learned = tuple(s for s in images.samples if not s.is_regularisation)
    return learned, tuple(s for s in images.samples if s.is_regularisation)


def place_of(sample: Sample) -> PurePosixPath:
    """Return where a picture lies below its own folder, without extension."""
    return PurePosixPath(sample.name.partition(REGULARISATION)[2] or sample.name)


def shared_repeats(samples: Sequence[Sample]) -> int:
    """Return how often the pictures are repeated beyond what their sub-folders say.

    Raises:
        ValueError: If it is not the same for all of them.
    """
    found = {}
    for sample in samples:
        match = REPEATS.fullmatch(place_of(sample).parts[0]) if _is_nested(sample) else None
        own = int(match[1]) if match else 1
        found.setdefault(sample.repeats / own, sample.name)
    factors = list(found)
    if len(factors) != 1 or factors[0] != int(factors[0]):
        names = " and ".join(list(found.values())[:2])
        raise ValueError(
            f"{names} are repeated by different numbers, which a folder cannot say: load the "
            "pictures from one folder with sub-folders such as 10_cat"
        )
    return int(factors[0])


def common_folder(samples: Sequence[Sample]) -> Path | None:
    """Return the folder that pictures were scanned in; None for pictures in memory."""
    folders = set()
    for sample in samples:
        if not isinstance(sample.source, Path):
            return None
        folders.add(sample.source.parents[len(place_of(sample).parts) - 1])
    return folders.pop() if len(folders) == 1 else None


def write_pictures(samples: Sequence[Sample], folder: Path) -> None:
    """Write pictures, captions and masks: files are copied, arrays become PNG files.

    Args:
        samples: All from one folder, or all in memory.
        folder: New or empty.

    Raises:
        OSError: If one cannot be read or written.
    """
    for index, sample in enumerate(samples, start=1):
        if isinstance(sample.source, Path):
            picture = folder / f"{place_of(sample)}{sample.source.suffix}"
            picture.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(sample.source, picture)
        else:
            # Their names come from a node's widget, and may be anything.
            picture = folder / f"{index:04d}.png"
            picture.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(sample.source).save(picture)
        if sample.caption:
            picture.with_suffix(".txt").write_text(sample.caption + "\n", encoding="utf-8")
        _write_mask(sample, picture)


def _write_mask(sample: Sample, picture: Path) -> None:
    if isinstance(sample.mask, Path):
        place = picture.parent / masks.FOLDER / f"{picture.stem}{sample.mask.suffix}"
        place.parent.mkdir(exist_ok=True)
        shutil.copyfile(sample.mask, place)
    elif isinstance(sample.mask, np.ndarray):
        Image.fromarray(sample.mask).save(picture.with_name(f"{picture.stem}-masklabel.png"))


def check_same_pictures(given: Sequence[Sample], read: Sequence[Sample]) -> None:
    """Check that pictures read from a folder are those that were given, in their order.

    Raises:
        ValueError: If one differs; the message names it and says in what.
    """
    if len(given) != len(read):
        raise ValueError(
            f"{len(given)} pictures were to be written and a folder of them has {len(read)}: the "
            "same picture with the same caption counts once; remove copies"
        )
    for ours, theirs in zip(given, read, strict=True):
        different = _difference(ours, theirs)
        if different:
            raise ValueError(
                f"{ours.name} has another {different} when it is read from a folder: save it as a "
                "PNG file with its caption in a .txt of the same name, and load that folder"
            )


def _difference(ours: Sample, theirs: Sample) -> str:
    """Return in what two pictures differ; empty if in nothing."""
    if ours.caption != theirs.caption:
        return f"caption ({theirs.caption!r} instead of {ours.caption!r})"
    if ours.repeats != theirs.repeats:
        return f"number of repeats ({theirs.repeats} instead of {ours.repeats})"
    same_file = isinstance(ours.source, Path) and ours.digest == theirs.digest
    if not same_file:
        first, second = (cut_picture(s, _whole(s)) for s in (ours, theirs))
        if not np.array_equal(first, second):
            return "content"
    first, second = (cut_mask(s, _whole(s)) for s in (ours, theirs))
    if first is None or second is None:
        return "" if first is second else "mask"
    return "" if np.array_equal(first, second) else "mask"


def _whole(sample: Sample) -> Placement:
    """Return the placement that neither resizes nor crops."""
    size = (sample.width, sample.height)
    return Placement(original=size, resized=size, crop=(0, 0), bucket=size)


def _is_nested(sample: Sample) -> bool:
    return len(place_of(sample).parts) > 1
