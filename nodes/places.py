"""ComfyUI's folders: image sets are read below ``input/``, all else is written to ``output/``."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import folder_paths

from ..trustopt.config import check_name
from ..trustopt.data.folder import REPEATS
from ..trustopt.data.images import EXTENSIONS
from ..trustopt.plan import Phrase
from ..trustopt.train.folders import Folders

EXAMPLE = "(example) emoji animals"
"""Entry of the folder list that is the image set which comes with the pack."""

MAX_DEPTH = 4
"""Folders deeper than this below ``input/`` are not listed; their name can still be given."""

LONGEST_NAME = 60
"""Characters of a folder named after several runs: three bytes each fit every file system."""


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
            Phrase(
                "no folder of images is chosen: put one below {root}, press R to refresh, "
                "choose it",
                root=root,
            )
        )
    path = os.path.join(root, name)
    if not folder_paths.is_within_directory(root, path):
        raise ValueError(
            Phrase(
                "the folder {name} leaves ComfyUI's input folder: copy or move your images to a "
                "folder below {root} and choose that",
                name=repr(name),
                root=root,
            )
        )
    if not os.path.isdir(path):
        raise ValueError(
            Phrase(
                "the folder {name} does not exist below {root}: create it and put images in it, "
                "or press R to refresh the list and choose another",
                name=repr(name),
                root=root,
            )
        )
    return Path(path)


def output_folders() -> Folders:
    """Return where runs write: LoRAs where ComfyUI's own loader looks for them."""
    output = Path(folder_paths.get_output_directory())
    runs = output / "trustopt"
    return Folders(loras=output / "loras", runs=runs, cache=runs / ".cache")


def lora_of_run(run: str) -> Path | None:
    """Return the LoRA file of a run; None if it is gone, or the name is no run's."""
    path = output_folders().loras / f"{run}.safetensors"
    return path if is_name(run) and path.is_file() else None


def plots_folder(runs: Sequence[str]) -> Path:
    """Make and return a new folder for the pictures of some runs; an earlier one stays as it is.

    One run's is ``plots`` in its own folder, that of several is below ``output/trustopt_plots``.

    Raises:
        OSError: If it cannot be made.
    """
    folders = output_folders()
    plots = folders.runs / runs[0] / "plots"
    if len(runs) > 1 or not is_name(runs[0]) or not plots.parent.is_dir():
        plain = re.sub(r"[^\w .-]", "_", "_".join(runs))[:LONGEST_NAME].strip(" .")
        plots = folders.runs.with_name("trustopt_plots") / (plain or "runs")
    return _new_folder(plots)


def problem_of(name: str | None) -> bool | str:
    """Return what ComfyUI's validation wants of a new file's name: True, or what is wrong.

    Args:
        name: Of the widget; None for a linked one, whose value is not known yet.
    """
    try:
        if name is not None:
            check_name(name)
        output_folders().check_writable()
    except ValueError as error:
        return str(error)
    return True


def jobs_folder(name: str) -> Path:
    """Make and return a new folder for an exported job; an earlier one stays as it is.

    Raises:
        OSError: If it cannot be made.
    """
    return _new_folder(output_folders().runs.with_name("trustopt_jobs") / name)


def is_name(run: str) -> bool:
    """Return whether a text may name a run, and so leads nowhere else."""
    try:
        check_name(run)
    except ValueError:
        return False
    return True


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


def _new_folder(wanted: Path) -> Path:
    wanted.parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}_{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


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
