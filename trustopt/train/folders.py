"""Where a run lives on disk, and names that never overwrite another run's.

``<runs>/<run>/``: ``job.json`` (what was asked), ``signals.jsonl``, ``state/<step>/`` (resume),
``samples/``, ``result.json`` (how it ended); the LoRA itself is ``<loras>/<run>.safetensors``.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import check_name


@dataclass(frozen=True, kw_only=True)
class Folders:
    """The three places a run writes to."""

    loras: Path
    """Finished LoRAs: ComfyUI's ``output/loras``."""
    runs: Path
    """One folder a run."""
    cache: Path | None = None
    """Encoded pictures and captions, shared by runs; None keeps them in memory."""

    def check_writable(self) -> None:
        """Create the folders and try them.

        Raises:
            ValueError: If one cannot be written to; the message names it and the remedy.
        """
        for folder in (self.loras, self.runs, self.cache):
            if folder is None:
                continue
            try:
                folder.mkdir(parents=True, exist_ok=True)
                probe = folder / f".write-test-{os.getpid()}"
                probe.write_bytes(b"")
                probe.unlink()
            except OSError as error:
                raise ValueError(
                    f"output folder {folder} cannot be written to ({error.strerror or error}): "
                    "free disk space, change its permissions, or choose another output folder"
                ) from error


@dataclass(frozen=True)
class RunFolder:
    """One run's folder and its LoRA's place."""

    path: Path
    lora: Path

    @property
    def signals(self) -> Path:
        """The recorder's file."""
        return self.path / "signals.jsonl"

    @property
    def state(self) -> Path:
        """Folder of resume states, one sub-folder a saved step."""
        return self.path / "state"

    @property
    def samples(self) -> Path:
        """Folder of sample pictures."""
        return self.path / "samples"

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write ``name`` in the run's folder, whole or not at all."""
        write_text(self.path / name, json.dumps(value, indent=2, ensure_ascii=False) + "\n")

    def read_json(self, name: str) -> dict[str, Any]:
        """Read ``name``; an absent file is an empty dict."""
        path = self.path / name
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def new_run(folders: Folders, name: str) -> RunFolder:
    """Create the folder of a new run, numbered if a run or LoRA of that name exists.

    Raises:
        ValueError: If the name cannot name a file.
    """
    check_name(name)
    number = 1
    while True:
        stem = name if number == 1 else f"{name}_{number}"
        run = RunFolder(folders.runs / stem, folders.loras / f"{stem}.safetensors")
        if not run.lora.exists():
            try:
                run.path.mkdir(parents=True)
            except FileExistsError:
                pass
            else:
                return run
        number += 1


def find_run(folders: Folders, name: str) -> RunFolder | None:
    """Return the newest run of a name that has a saved state, or None."""
    check_name(name)
    newest: tuple[float, RunFolder] | None = None
    for path in folders.runs.glob(f"{name}*"):
        suffix = path.name[len(name) :]
        if suffix and not (suffix[0] == "_" and suffix[1:].isdigit()):
            continue
        states = saved_steps(path / "state")
        if states:
            changed = (path / "state" / states[-1]).stat().st_mtime
            if newest is None or changed > newest[0]:
                run = RunFolder(path, folders.loras / f"{path.name}.safetensors")
                newest = (changed, run)
    return newest[1] if newest else None


def saved_steps(state: Path) -> list[str]:
    """Return the names of complete state folders, oldest first."""
    if not state.is_dir():
        return []
    return sorted(p.name for p in state.iterdir() if p.is_dir() and p.name.isdigit())


def write_text(path: Path, text: str) -> None:
    """Replace a file's text so that a crash leaves the old or the new one, never a part.

    Raises:
        OSError: If it cannot be written; the first line says what to do.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(
            error.errno,
            f"{path} cannot be written ({error.strerror or error}): free disk space, or choose "
            "another output folder",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder survive a power loss, where the system can."""
    if os.name == "nt":  # Windows opens no folders; its renames are journaled
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_folder(folder: Path) -> None:
    """Remove a folder and what is in it, first renaming it so that a crash leaves no half state."""
    doomed = folder.with_name(f".old-{folder.name}")
    shutil.rmtree(doomed, ignore_errors=True)
    os.replace(folder, doomed)
    shutil.rmtree(doomed, ignore_errors=True)
