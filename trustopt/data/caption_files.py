"""Where a picture's caption is kept, and how an edited one is written so that nothing is lost.

An edited caption goes to the file it was read from, or to a new one named like its picture, which
counts before metadata files and folder names. The first caption of each file is kept, once, in
the hidden folder ``.trustopt-originals`` beside it.
"""

from collections.abc import Sequence
from pathlib import Path

from .captions import LONGEST, one_line
from .images import EXTENSIONS

READ = (".txt", ".caption")
"""Extensions of caption files that are always looked for, after the one asked for."""

WRITTEN = (".txt", ".caption", ".cap", ".tags", ".text", ".prompt")
"""Extensions of files that editing may create or replace: nothing but captions has them."""

ORIGINALS = ".trustopt-originals"
"""Folder beside the pictures with what was there before the first edit."""


def caption_extensions(asked: str) -> tuple[str, ...]:
    """Return the extensions of caption files in the order in which they are tried.

    Args:
        asked: The first one, with or without its dot.

    Raises:
        ValueError: If it holds a path separator, or is that of pictures.
    """
    extension = "." + asked.strip().lstrip(".")
    if "/" in extension or "\\" in extension or extension.lower() in EXTENSIONS:
        raise ValueError(f"caption_extension must be one such as .txt, got {asked!r}")
    return tuple(dict.fromkeys((extension, *READ)))


def caption_files(picture: Path, extensions: Sequence[str]) -> list[Path]:
    """Return the caption files a picture has; the first one counts."""
    named = (picture.with_name(picture.stem + extension) for extension in extensions)
    return [path for path in named if path.is_file()]


def caption_target(picture: Path, extensions: Sequence[str]) -> Path:
    """Return the file an edited caption is written to: the one that counts, else a new one.

    Raises:
        ValueError: If its extension is none of captions.
    """
    found = caption_files(picture, extensions)
    target = found[0] if found else picture.with_name(picture.stem + extensions[0])
    if target.suffix.lower() not in WRITTEN:
        raise ValueError(
            f"captions are not written to {target.suffix or 'extensionless'} files: set "
            f"caption_extension to one of {', '.join(WRITTEN)}"
        )
    return target


def caption_writes(target: Path, caption: str, before: str) -> list[tuple[Path, bytes]]:
    """Return the files to write for an edited caption, in this order, each as a whole.

    Args:
        target: Of ``caption_target``; it may not exist yet.
        caption: The new one; it is put on one line.
        before: The caption that counted until now, wherever it came from.

    Raises:
        ValueError: If the caption is longer than what is read of a file.
        OSError: If the present file cannot be read.
    """
    content = one_line(caption).encode()
    if len(content) >= LONGEST:
        raise ValueError(
            f"the caption is {len(content)} bytes long, more than {LONGEST - 1}: shorten it; text "
            "encoders read its first 77 to 512 tokens"
        )
    content += b"\n" if content else b""
    original = original_file(target)
    if original.exists():
        return [(target, content)]
    kept = target.read_bytes() if target.is_file() else before.encode()
    return [(original, kept), (target, content)]


def original_file(target: Path) -> Path:
    """Return where the first caption of a file is kept."""
    return target.with_name(ORIGINALS) / target.name
