"""A folder of pictures, captions and masks becomes an image set; one bad file never stops it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .captions import read_caption
from .images import UnusablePictureError, inspect_picture
from .metadata import read_metadata
from .samples import FileNote, ImageSet, Sample

PICTURES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif")
"""Extensions read, best first: of two files with one name the earlier is kept."""

OTHER_PICTURES = (".heic", ".heif", ".jxl", ".psd", ".svg", ".dng", ".cr2", ".nef", ".arw", ".mp4")
"""Pictures this cannot read; named, so that nobody wonders where they went."""

REPEATS = re.compile(r"(\d{1,3})_(.+)")
"""kohya's sub-folder ``10_cat``: ten repeats of class ``cat``. Years (``2024_trip``) are none."""

MASK_FOLDER = "masks"
MASK_NAMES = ("{stem}-masklabel.png", "{stem}.mask.png", "{name}.mask.png")
IS_MASK = re.compile(r"(-masklabel|\.mask)\.png", re.IGNORECASE)


@dataclass
class _Scan:
    """What a scan collects on its way."""

    root: Path
    extensions: tuple[str, ...]
    samples: list[Sample] = field(default_factory=list)
    skipped: list[FileNote] = field(default_factory=list)
    notes: list[FileNote] = field(default_factory=list)

    def label(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


@dataclass(frozen=True)
class _Subset:
    """One folder whose pictures share repeats and a fallback caption."""

    folder: Path
    repeats: int
    class_words: str
    captions: dict[str, str]


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
    extension = "." + caption_extension.strip().lstrip(".")
    scan = _Scan(folder, tuple(dict.fromkeys((extension, ".txt", ".caption"))))
    for subset in _subsets(scan, repeats):
        _scan_subset(scan, subset)
    _skip_repeated_contents(scan)
    if not scan.samples:
        reasons = "\n".join(f"  {note.file}: {note.text}" for note in scan.skipped)
        raise ValueError(
            f"the folder {folder} holds no usable image: put PNG, JPEG or WebP files in it"
            + (f"\nskipped:\n{reasons}" if reasons else "")
        )
    return ImageSet(
        name=folder.name or folder.resolve().name,
        samples=tuple(scan.samples),
        skipped=tuple(scan.skipped),
        notes=tuple(scan.notes),
        trigger_word=trigger_word.strip(),
    )


def _subsets(scan: _Scan, repeats: int) -> Iterator[_Subset]:
    captions, notes = read_metadata(scan.root)
    scan.notes += notes
    yield _Subset(scan.root, repeats, "", captions)
    for child in sorted(p for p in scan.root.iterdir() if p.is_dir()):
        if child.name.startswith(".") or child.name == MASK_FOLDER:
            continue
        match = REPEATS.fullmatch(child.name)
        if match is None or int(match[1]) < 1:
            if any(_is_picture(p) for p in child.iterdir()):
                text = "not read: sub-folders are named repeats_words, like 10_cat"
                scan.skipped.append(FileNote(f"{child.name}/", text))
            continue
        inner, notes = read_metadata(child)
        scan.notes += [FileNote(f"{child.name}/{n.file}", n.text) for n in notes]
        words = " ".join(match[2].replace("_", " ").split())
        yield _Subset(child, repeats * int(match[1]), words, captions | inner)


def _scan_subset(scan: _Scan, subset: _Subset) -> None:
    by_stem: dict[str, list[Path]] = {}
    for path in sorted(subset.folder.iterdir()):
        if _is_picture(path):
            by_stem.setdefault(path.stem, []).append(path)
        elif path.suffix.lower() in OTHER_PICTURES and path.is_file():
            text = f"{path.suffix.lower()} files cannot be read: convert it to PNG or JPEG"
            scan.skipped.append(FileNote(scan.label(path), text))
    for paths in by_stem.values():
        kept = None
        for path in sorted(paths, key=lambda p: PICTURES.index(p.suffix.lower())):
            if kept is not None:
                text = f"has the same name as {kept.name}: rename it to train on both"
                scan.skipped.append(FileNote(scan.label(path), text))
            elif _scan_picture(scan, subset, path):
                kept = path


def _scan_picture(scan: _Scan, subset: _Subset, path: Path) -> bool:
    """Add one picture to the scan, or say why not."""
    label = scan.label(path)
    try:
        facts = inspect_picture(path)
    except UnusablePictureError as error:
        scan.skipped.append(FileNote(label, str(error)))
        return False
    if facts.remark:
        scan.notes.append(FileNote(label, facts.remark))
    mask = _find_mask(scan, path, facts.width / facts.height)
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
    for extension in scan.extensions:
        file = path.with_name(path.stem + extension)
        if not file.is_file():
            continue
        try:
            caption, remark = read_caption(file)
        except OSError as error:
            scan.notes.append(FileNote(scan.label(file), f"not read: {error}"))
            continue
        if remark:
            scan.notes.append(FileNote(scan.label(file), remark))
        return caption
    for key in (scan.label(path), path.as_posix(), path.name, path.stem):
        if key in subset.captions:
            return subset.captions[key]
    return subset.class_words


def _find_mask(scan: _Scan, path: Path, aspect: float) -> Path | None:
    beside = [path.with_name(n.format(stem=path.stem, name=path.name)) for n in MASK_NAMES]
    folders = dict.fromkeys((path.parent / MASK_FOLDER, scan.root / MASK_FOLDER))
    within = [f / (path.stem + suffix) for f in folders for suffix in PICTURES]
    for mask in (*beside, *within):
        if not mask.is_file():
            continue
        try:
            facts = inspect_picture(mask)
        except UnusablePictureError as error:
            scan.notes.append(FileNote(scan.label(mask), f"this mask is not used: {error}"))
            continue
        if abs(facts.width / facts.height / aspect - 1.0) > 0.02:
            text = f"this mask is not used: {facts.width}x{facts.height} has not its image's shape"
            scan.notes.append(FileNote(scan.label(mask), text))
            continue
        return mask
    return None


def _is_picture(path: Path) -> bool:
    return (
        path.suffix.lower() in PICTURES
        and not path.name.startswith(".")
        and IS_MASK.search(path.name) is None
        and path.is_file()
    )


def _skip_repeated_contents(scan: _Scan) -> None:
    """Skip files with the content and caption of an earlier one; name those that differ."""
    same_size: dict[int, list[Sample]] = {}
    for sample in scan.samples:
        assert isinstance(sample.source, Path)
        same_size.setdefault(sample.source.stat().st_size, []).append(sample)
    dropped: set[str] = set()
    for candidates in same_size.values():
        seen: dict[str, Sample] = {}
        for sample in candidates if len(candidates) > 1 else []:
            first = seen.setdefault(sample.digest, sample)
            if first is sample:
                continue
            assert isinstance(sample.source, Path)
            label = scan.label(sample.source)
            if first.caption == sample.caption:
                dropped.add(sample.name)
                text = f"the same image and caption as {first.name}: raise repeats instead"
                scan.skipped.append(FileNote(label, text))
            else:
                text = f"the same image as {first.name} with another caption"
                scan.notes.append(FileNote(label, text))
    scan.samples = [s for s in scan.samples if s.name not in dropped]
