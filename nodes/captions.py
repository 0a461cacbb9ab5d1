"""The captions of a folder, for the editor in the browser: listed, shown small, saved."""

import io
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import folder_paths

from ..trustopt.config import DataConfig
from ..trustopt.data import ImageSet, Placement, Sample, plan_image_set
from ..trustopt.data.caption_files import (
    caption_extensions,
    caption_files,
    caption_target,
    caption_writes,
    original_file,
)
from ..trustopt.data.captions import one_line, read_caption
from ..trustopt.data.folder import same_content
from ..trustopt.data.images import EXTENSIONS, file_thumbnail
from ..trustopt.host import PIXEL_MULTIPLES
from ..trustopt.signals.durable import replace_file
from ..trustopt.train.plan_job import data_of
from .places import EXAMPLE, resolve_image_folder
from .prefill import Query, model_of, plan_of, read_folder

THUMBNAIL = 256
"""Side of a thumbnail in pixels: sharp at half of it on a screen of double density."""

EXAMPLE_NOTICE = (
    "The example set comes with the pack and is not changed: copy its pictures to a folder "
    "below input to write captions for them."
)

_saving = threading.Lock()


@dataclass(frozen=True)
class Edit:
    """One caption to save."""

    name: str
    """Of the picture, as ``list_captions`` names it."""
    caption: str
    before: str
    """The caption it replaces; if the file says something else by now, it is not saved."""


def list_captions(query: Query) -> dict[str, Any]:
    """Return every picture of a folder with its caption, bucket and what is the matter with it.

    Raises:
        ValueError: If the folder leaves ``input/``, is missing or holds no usable picture.
    """
    folder = resolve_image_folder(query.folder)
    images = read_folder(replace(query, repeats=1))
    pictures, outside = _pictures(images, folder)
    data, multiple, is_planned = _buckets_of(query, images)
    plan = plan_image_set(replace(images, samples=tuple(pictures)), data, multiple)
    earlier = same_content(pictures)
    extensions = caption_extensions(query.caption_extension)
    shown = {_label(_path_of(sample), folder) for sample in pictures}
    return {
        "folder": query.folder,
        "resolution": data.resolution,
        "is_planned": is_planned,
        "notice": EXAMPLE_NOTICE if query.folder == EXAMPLE else "",
        "pictures": [
            _entry(sample, views[0], extensions, folder, earlier.get(sample.name))
            for sample, views in zip(pictures, plan.views, strict=True)
        ],
        "skipped": [
            *(
                {"file": note.file, "text": note.text}
                for note in images.skipped
                if note.file not in shown  # duplicates are
            ),
            *({"file": name, "text": "a link that leaves input: not shown"} for name in outside),
        ],
    }


def save_captions(folder: str, caption_extension: str, edits: Sequence[Edit]) -> dict[str, Any]:
    """Write captions beside their pictures; what was there first is kept.

    Each is written as a whole or not at all; one that cannot be does not stop the others.

    Returns:
        ``saved``: by name, the caption as it is read now and its file. ``problems``: by name, the
        reason and, where the file says something else than the editor thought, its caption.

    Raises:
        ValueError: If the folder leaves ``input/``, is missing or holds no usable picture.
    """
    if folder == EXAMPLE:
        raise ValueError(EXAMPLE_NOTICE)
    root = resolve_image_folder(folder)
    saved: dict[str, Any] = {}
    problems: dict[str, Any] = {}
    with _saving:
        images = read_folder(Query(folder=folder, caption_extension=caption_extension))
        pictures = {sample.name: sample for sample in _pictures(images, root)[0]}
        for edit in edits:
            sample = pictures.get(edit.name)
            if sample is None:
                problems[edit.name] = {"text": "the picture is no longer there"}
            elif sample.caption != edit.before:
                text = "the caption was changed meanwhile: save again to replace it"
                problems[edit.name] = {"text": text, "caption": sample.caption}
            else:
                try:
                    target = _write(sample, edit, caption_extension)
                except (ValueError, OSError) as error:
                    problems[edit.name] = {"text": _reason(error)}
                else:
                    caption = one_line(edit.caption)
                    saved[edit.name] = {"caption": caption, "file": _label(target, root)}
    return {"saved": saved, "problems": problems}


def thumbnail_of(folder: str, file: str) -> bytes:
    """Return a small JPEG of a picture.

    Args:
        folder: As the Load Image Set node lists it.
        file: Path of the picture below it.

    Raises:
        ValueError: If it is no picture, cannot be decoded, or leaves the folder or ``input/``.
    """
    root = resolve_image_folder(folder)
    path = root / file
    is_below = path.is_relative_to(root) and ".." not in Path(file).parts
    if path.suffix.lower() not in EXTENSIONS or not is_below or not _may_be_shown(path, root):
        raise ValueError(f"{file!r} is no picture of {folder!r}")
    encoded = io.BytesIO()
    file_thumbnail(path, THUMBNAIL).save(encoded, "JPEG", quality=85)
    return encoded.getvalue()


def _pictures(images: ImageSet, folder: Path) -> tuple[list[Sample], list[str]]:
    """Return a folder's pictures by name, duplicates included, and the names of links outside."""
    inside, outside = [], []
    for sample in sorted((*images.samples, *images.duplicates), key=lambda sample: sample.name):
        (inside if _may_be_shown(_path_of(sample), folder) else outside).append(sample)
    return inside, [sample.name for sample in outside]


def _buckets_of(query: Query, images: ImageSet) -> tuple[DataConfig, int, bool]:
    """Return how pictures are cut, to multiples of what, and whether a preset says so."""
    try:
        plan = plan_of(query, images, model_of(query.model))
    except ValueError:  # the Preset node says why, where there is one
        return DataConfig(), max(PIXEL_MULTIPLES.values()), False
    return data_of(plan), PIXEL_MULTIPLES[plan.family], True


def _entry(
    sample: Sample,
    placement: Placement,
    extensions: Sequence[str],
    folder: Path,
    same_as: Sample | None,
) -> Mapping[str, Any]:
    path = _path_of(sample)
    files = caption_files(path, extensions)
    status = path.stat()
    return {
        "name": sample.name,
        "file": _label(path, folder),
        "version": f"{status.st_mtime_ns:x}-{status.st_size:x}",
        "width": sample.width,
        "height": sample.height,
        "bucket": list(placement.bucket),
        "scale": round(placement.scale, 3),
        "cropped": round(placement.cropped, 3),
        "caption": sample.caption,
        "caption_file": _label(files[0], folder) if files else None,
        "original": _original(files[0]) if files else None,
        "same_as": same_as.name if same_as else None,
    }


def _original(target: Path) -> str | None:
    """Return the first caption of a file; None if it was never edited."""
    path = original_file(target)
    try:
        return read_caption(path)[0] if path.is_file() and _is_within(path) else None
    except OSError:
        return None


def _write(sample: Sample, edit: Edit, caption_extension: str) -> Path:
    """Write one caption.

    Raises:
        ValueError: If its file is a link, leaves ``input/`` or has no caption's extension, or the
            caption is too long.
        OSError: If it cannot be written; the file is then as it was.
    """
    target = caption_target(_path_of(sample), caption_extensions(caption_extension))
    for path in (target, original_file(target).parent):
        if path.is_symlink() or not _is_within(path):
            raise ValueError(f"{path.name} is a link: captions are not written through links")
    if one_line(edit.caption) == sample.caption:
        return target
    for path, content in caption_writes(target, edit.caption, sample.caption):
        path.parent.mkdir(exist_ok=True)
        replace_file(path, content)
    return target


def _reason(error: ValueError | OSError) -> str:
    if isinstance(error, OSError):
        return (
            f"it cannot be written ({error.strerror or error}): make the folder writable, or copy "
            "the pictures to one that is"
        )
    return str(error)


def _may_be_shown(path: Path, folder: Path) -> bool:
    """Tell whether a picture lies in its folder or elsewhere in ``input/``, links followed."""
    return folder_paths.is_within_directory(str(folder), str(path)) or _is_within(path)


def _is_within(path: Path) -> bool:
    return folder_paths.is_within_directory(folder_paths.get_input_directory(), str(path))


def _path_of(sample: Sample) -> Path:
    assert isinstance(sample.source, Path), "a folder's pictures are files"
    return sample.source


def _label(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
