"""Captions from a metadata file instead of one text file a picture.

Read are JSON Lines (``{"file_name" | "image_path": ..., "text" | "caption": ..., "tags": ...}``,
as Hugging Face image folders and musubi-tuner write) and kohya's JSON
(``{path: {"caption": ..., "tags": ...}}``).
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from .samples import FileNote

FILE_NAMES = (
    "metadata.jsonl",
    "metadata.json",
    "meta_clean.json",
    "meta_lat.json",
    "meta_cap.json",
)
"""Looked for in this order; the first caption of a picture wins."""

PATH_KEYS = ("file_name", "image_path", "image", "file", "path")
TEXT_KEYS = ("caption", "text", "prompt")


def read_metadata(folder: Path) -> tuple[dict[str, str], list[FileNote]]:
    """Return captions by picture name, and what could not be read.

    Keys are the picture's path as written, its file name, and its name without extension.
    """
    captions: dict[str, str] = {}
    notes: list[FileNote] = []
    for name in FILE_NAMES:
        path = folder / name
        if not path.is_file():
            continue
        for picture, entry in _entries(path, notes):
            caption = _caption(entry)
            pure = PurePosixPath(picture.replace("\\", "/"))
            for key in (pure.as_posix(), pure.name, pure.stem):
                if caption:
                    captions.setdefault(key, caption)
    return captions, notes


def _entries(path: Path, notes: list[FileNote]) -> Iterable[tuple[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        notes.append(FileNote(path.name, f"not read: {error}"))
        return []
    return (
        _json_lines(path.name, text, notes)
        if path.suffix == ".jsonl"
        else _json(path.name, text, notes)
    )


def _json_lines(name: str, text: str, notes: list[FileNote]) -> Iterable[tuple[str, Any]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        entry = _parse(f"{name} line {number}", line, notes)
        picture = next((entry[k] for k in PATH_KEYS if isinstance(entry.get(k), str)), None)
        if picture:
            yield picture, entry
        elif entry:
            notes.append(FileNote(f"{name} line {number}", f"names no picture ({PATH_KEYS[0]})"))


def _json(name: str, text: str, notes: list[FileNote]) -> Iterable[tuple[str, Any]]:
    return _parse(name, text, notes).items()


def _parse(name: str, text: str, notes: list[FileNote]) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        notes.append(FileNote(name, f"not read, its JSON is broken: {error}"))
        return {}
    if not isinstance(value, dict):
        notes.append(
            FileNote(name, f"not read: expected a JSON object, found {type(value).__name__}")
        )
        return {}
    return value


def _caption(entry: Any) -> str:
    if isinstance(entry, str):
        return " ".join(entry.split())
    if not isinstance(entry, dict):
        return ""
    text = next((entry[k] for k in TEXT_KEYS if isinstance(entry.get(k), str)), "")
    tags = entry.get("tags", "")
    if isinstance(tags, list):
        tags = ", ".join(str(tag) for tag in tags)
    parts = [part for part in (text, tags) if isinstance(part, str) and part.strip()]
    return " ".join(", ".join(parts).split())
