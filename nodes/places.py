"""ComfyUI's folders: image sets are read below ``input/``, all else is written to ``output/``."""

import os
from collections.abc import Iterator
from pathlib import Path

import folder_paths

from ..trustopt.data.folder import REPEATS
from ..trustopt.data.images import EXTENSIONS
from ..trustopt.train.folders import Folders

EXAMPLE = "(example) emoji animals"
"""Entry of the folder list that is the image set which comes with the pack."""

MAX_DEPTH = 4
"""Folders deeper than this below ``input/`` are not listed; their name can still be given."""


def example_folder() -> Path:
    """Return the folder of the image set that comes with the pack."""
    return Path(__file__).parents[1] / "trustopt" / "hosts" / "tiny" / "images"


def list_image_folders() -> list[str]:
    """Return the folders below ``input/`` that hold pictures, by relative name, sorted."""
    root = Path(folder_paths.get_input_directory())
    return sorted(_walk(root, "", MAX_DEPTH)) if root.is_dir() else []


def resolve_image_folder(name: str) -> Path:
    """Return the folder that a name of the list stands for.

    Raises:
        ValueError: If it is empty, leaves ``input/`` (also through a link) or does not exist.
    """
    if name == EXAMPLE:
        return example_folder()
    root = folder_paths.get_input_directory()
    if not name.strip():
        raise ValueError(
            f"no folder of images is chosen: put one below {root}, press R to refresh, choose it"
        )
    path = os.path.join(root, name)
    if not folder_paths.is_within_directory(root, path):
        raise ValueError(
            f"the folder {name!r} leaves ComfyUI's input folder: copy or move your images to a "
            f"folder below {root} and choose that"
        )
    if not os.path.isdir(path):
        raise ValueError(
            f"the folder {name!r} does not exist below {root}: create it and put images in it, "
            "or press R to refresh the list and choose another"
        )
    return Path(path)


def output_folders() -> Folders:
    """Return where runs write: LoRAs where ComfyUI's own loader looks for them."""
    output = Path(folder_paths.get_output_directory())
    runs = output / "trustopt"
    return Folders(loras=output / "loras", runs=runs, cache=runs / ".cache")


def resolve_lora_file(path: str) -> Path:
    """Return a LoRA file of ComfyUI's folders, from its path or its name in the loras folders.

    Raises:
        ValueError: If it lies elsewhere or does not exist.
    """
    path = path.strip()
    named = None if os.path.isabs(path) else folder_paths.get_full_path("loras", path)
    candidate = named or path
    roots = [folder_paths.get_output_directory(), *folder_paths.get_folder_paths("loras")]
    if not any(folder_paths.is_within_directory(root, candidate) for root in roots):
        raise ValueError(
            f"the LoRA {path!r} is not in ComfyUI's output or loras folders: put it in one of "
            f"{', '.join(dict.fromkeys(roots))}"
        )
    return Path(candidate)


def _walk(folder: Path, name: str, depth: int) -> Iterator[str]:
    """Yield ``name`` and those below it that hold pictures.

    Links are not followed: the pictures must be below ``input/`` themselves.
    """
    try:
        entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError:
        return
    children = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    has_pictures = any(entry.name.lower().endswith(EXTENSIONS) for entry in entries)
    if name and (has_pictures or any(REPEATS.fullmatch(child) for child in children)):
        yield name
    for child in children if depth else ():
        yield from _walk(folder / child, f"{name}/{child}" if name else child, depth - 1)
