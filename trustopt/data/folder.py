"""A folder of pictures, captions and masks becomes an image set; one bad file never stops it."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import masks
from .caption_files import caption_extensions, caption_files
from .captions import read_caption
from .images import EXTENSIONS, UnusablePictureError, inspect_picture
from .metadata import read_metadata
from .samples import FileNote, ImageSet, Sample

UNREADABLE = (".heic", ".heif", ".jxl", ".psd", ".svg", ".dng", ".cr2", ".nef", ".arw", ".mp4")
"""Pictures Pillow does not read; named, so that nobody wonders where they went."""

REPEATS = re.compile(r"(\d{1,3})_(.+)")
"""kohya's sub-folder ``10_cat``: ten repeats of class ``cat``. Years (``2024_trip``) are none."""


@dataclass(frozen=True)
class _Subset:
    """One folder whose pictures share repeats and fallback captions."""

    folder: Path
    repeats: int
    class_words: str
    captions: dict[str, str]
    masks: dict[str, Path]


@dataclass
class _Scan:
    """What a scan collects on its way."""

    root: Path
    caption_extensions: tuple[str, ...]
    samples: list[Sample] = field(default_factory=list)
    skipped: list[FileNote] = field(default_factory=list)
    notes: list[FileNote] = field(default_factory=list)
    duplicates: list[Sample] = field(default_factory=list)

    def skip(self, path: Path, reason: str) -> None:
        self.skipped.append(FileNote(self.label(path), reason))

    def note(self, path: Path, text: str) -> None:
        self.notes.append(FileNote(self.label(path), text))

    def label(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def files(self, folder: Path) -> list[Path]:
        """Return a folder's entries, sorted; none if it is absent or cannot be read."""
        if not folder.is_dir():
            return []
        try:
            return sorted(p for p in folder.iterdir() if not p.name.startswith("."))
        except OSError as error:
            self.skip(folder, f"the folder cannot be read: {error}")
            return []


def scan_folder(
    folder: Path,
    *,
    trigger_word: str = "",
    caption_extension: str = ".txt",
    repeats: int = 1,
) -> ImageSet:
    """Read a folder of pictures with their captions and masks.

    Captions come from ``<picture name><caption_extension>``, else ``.txt`` or ``.caption``, else a
    metadata file, else a kohya sub-folder's class words. Masks are ``<name>-masklabel.png``,
    ``<name>.mask.png``, ``masks/<name>.*`` or the picture's alpha channel.

    Args:
        folder: Pictures, and kohya sub-folders ``N_words`` whose pictures are repeated N times.
        trigger_word: Added to captions that lack it when training.
        caption_extension: Of caption files, tried first.
        repeats: Times each picture is seen an epoch, on top of a sub-folder's own.

    Raises:
        ValueError: If the folder is missing or holds no usable picture; the message names it and
            says what was skipped and why.
    """
    if not folder.is_dir():
        raise ValueError(f"the folder {folder} does not exist: choose a folder of images")
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    scan = _Scan(folder, caption_extensions(caption_extension))
    for subset in _subsets(scan, repeats):
        _scan_subset(scan, subset)
    _skip_repeated_contents(scan)
    if not scan.samples:
        reasons = "".join(f"\n  {note.file}: {note.text}" for note in scan.skipped)
        raise ValueError(
            f"the folder {folder} holds no usable image: put PNG, JPEG or WebP files in it"
            + (f"\nskipped:{reasons}" if reasons else "")
        )
    return ImageSet(
        name=folder.name or folder.resolve().name,
        samples=tuple(scan.samples),
        skipped=tuple(scan.skipped),
        notes=tuple(scan.notes),
        trigger_word=trigger_word.strip(),
        duplicates=tuple(scan.duplicates),
    )


def folder_stamp(folder: Path) -> str:
    """Return a hash of all names, sizes and times below a folder: cheap news that it changed.

    Raises:
        ValueError: If the folder is missing.
    """
    if not folder.is_dir():
        raise ValueError(f"the folder {folder} does not exist: choose a folder of images")
    stamp = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            status = path.stat()
            name = path.relative_to(folder).as_posix()
            stamp.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\1".encode())
    return stamp.hexdigest()


def _subsets(scan: _Scan, repeats: int) -> Iterator[_Subset]:
    entries = scan.files(scan.root)
    captions, notes = read_metadata(scan.root)
    scan.notes += notes
    found = masks.find_masks(entries, scan.files(scan.root / masks.FOLDER))
    yield _Subset(scan.root, repeats, "", captions, found)
    for child in entries:
        if not child.is_dir() or child.name == masks.FOLDER:
            continue
        files = scan.files(child)
        match = REPEATS.fullmatch(child.name)
        if match is None or int(match[1]) < 1:
            if any(_is_picture(path) for path in files):
                scan.skip(child, "not read: a sub-folder is named repeats_words, like 10_cat")
            continue
        inner, notes = read_metadata(child)
        scan.notes += [FileNote(f"{child.name}/{n.file}", n.text) for n in notes]
        yield _Subset(
            child,
            repeats * int(match[1]),
            " ".join(match[2].replace("_", " ").split()),
            captions | inner,
            masks.find_masks(files, scan.files(child / masks.FOLDER)),
        )


def _scan_subset(scan: _Scan, subset: _Subset) -> None:
    same_name: dict[str, list[Path]] = {}
    for path in scan.files(subset.folder):
        if _is_picture(path):
            same_name.setdefault(path.stem, []).append(path)
        elif path.suffix.lower() in UNREADABLE and path.is_file():
            scan.skip(path, f"{path.suffix.lower()} cannot be read: convert it to PNG or JPEG")
    used: set[Path] = set()
    for paths in same_name.values():
        kept = None
        for path in sorted(paths, key=lambda p: EXTENSIONS.index(p.suffix.lower())):
            if kept is not None:
                scan.skip(path, f"has the name of {kept.name}: rename it to train on both")
            elif _scan_picture(scan, subset, path, used):
                kept = path
    for mask in subset.masks.values():
        if mask not in used:
            scan.note(mask, "this mask has no image of its name")


def _scan_picture(scan: _Scan, subset: _Subset, path: Path, used_masks: set[Path]) -> bool:
    """Add one picture to the scan, or say why not."""
    mask = subset.masks.get(path.name) or subset.masks.get(path.stem)
    if mask is not None:
        used_masks.add(mask)
    try:
        facts = inspect_picture(path)
    except UnusablePictureError as error:
        scan.skip(path, str(error))
        return False
    if facts.remark:
        scan.note(path, facts.remark)
    if mask is not None and (problem := masks.mask_problem(mask, facts.width, facts.height)):
        scan.note(mask, f"this mask is not used: {problem}")
        mask = None
    scan.samples.append(
        Sample(
            name=path.relative_to(scan.root).with_suffix("").as_posix(),
            source=path,
            caption=_find_caption(scan, subset, path),
            width=facts.width,
            height=facts.height,
            repeats=subset.repeats,
            mask=mask or ("alpha" if facts.has_alpha else None),
        )
    )
    return True


def _find_caption(scan: _Scan, subset: _Subset, path: Path) -> str:
    for file in caption_files(path, scan.caption_extensions):
        try:
            caption, remark = read_caption(file)
        except OSError as error:
            scan.note(file, f"not read: {error}")
            continue
        if remark:
            scan.note(file, remark)
        return caption
    for key in (scan.label(path), path.as_posix(), path.name, path.stem):
        if key in subset.captions:
            return subset.captions[key]
    return subset.class_words


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS and not masks.is_mask(path) and path.is_file()


def same_content(samples: Sequence[Sample]) -> dict[str, Sample]:
    """Return the pictures whose file has the content of an earlier one's, by name, with that one.

    Only files of one size are read.

    Raises:
        OSError: If a file is gone.
    """
    same_size: dict[int, list[Sample]] = {}
    for sample in samples:
        assert isinstance(sample.source, Path)
        same_size.setdefault(sample.source.stat().st_size, []).append(sample)
    found = {}
    for candidates in same_size.values():
        seen: dict[str, Sample] = {}
        for sample in candidates if len(candidates) > 1 else []:
            first = seen.setdefault(sample.digest, sample)
            if first is not sample:
                found[sample.name] = first
    return found


def _skip_repeated_contents(scan: _Scan) -> None:
    """Skip files with the content and caption of an earlier one; name those that differ."""
    earlier = same_content(scan.samples)
    for sample in [sample for sample in scan.samples if sample.name in earlier]:
        first = earlier[sample.name]
        assert isinstance(sample.source, Path)
        if first.caption == sample.caption:
            scan.samples.remove(sample)
            scan.duplicates.append(sample)
            scan.skip(sample.source, f"the same image and caption as {first.name}")
        else:
            text = f"the same image as {first.name}, with another caption"
            scan.note(sample.source, text)
