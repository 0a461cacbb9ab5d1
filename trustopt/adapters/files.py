"""Writing a LoRA file: whole or not at all, and never over another one unasked."""

import errno
import glob
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ..host import Family
from . import container
from .formats import FileFormat, to_tensors
from .patch import LayerPatch

Existing = Literal["number", "refuse", "replace"]

_KEPT_EXACT = (".alpha", ".dora_scale")
_OF_OLD_TENSORS = frozenset({"lora_adapter_metadata", "modelspec.hash_sha256"})
"""Header fields of a file read before that would be wrong about the tensors written now.

Diffusers scales by ``lora_adapter_metadata``, and the scale is in the factors or alphas already.
"""


def save_lora(
    path: Path,
    patches: Mapping[str, LayerPatch],
    *,
    family: Family,
    metadata: Mapping[str, str],
    file_format: FileFormat = "kohya",
    dtype: torch.dtype = torch.float16,
    existing: Existing = "number",
) -> Path:
    """Write a LoRA file and return where it is.

    Equal patches and metadata give equal bytes. The ``sshs_*`` hashes are added here; they cover
    tensor bytes, so they do not change with times or notes in the metadata.

    Args:
        path: Wanted file; its folder is made if missing.
        patches: By canonical layer name, as ``AdapterSet.patches`` or ``read_lora`` give them.
        family: The base model's.
        metadata: String to string, see ``build_metadata``; its order is kept. What describes
            the tensors of another file (``lora_adapter_metadata``) is left out.
        file_format: See ``to_tensors``.
        dtype: Of the factors; alpha and ``dora_scale``, which multiplies the base weights
            themselves, stay float32.
        existing: If the name is taken: ``number`` writes ``name-2`` (or the next free number),
            ``refuse`` raises, ``replace`` overwrites.

    Raises:
        ValueError: If the format cannot hold the patches, a value is not finite in ``dtype``, or
            the name is taken and ``existing`` is ``refuse``.
        OSError: If the disk is full or the folder cannot be written; no partial file stays.
    """
    tensors = {
        key: tensor.to("cpu", tensor.dtype if key.endswith(_KEPT_EXACT) else dtype)
        for key, tensor in to_tensors(patches, file_format, family).items()
    }
    _require_finite(tensors, dtype)
    path = free_path(path, existing)
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {key: value for key, value in metadata.items() if key not in _OF_OLD_TENSORS}
    hashes = {
        "sshs_model_hash": container.model_hash(tensors),
        "sshs_legacy_hash": container.legacy_hash(tensors, metadata),
    }
    header = container.header(tensors, {**metadata, **hashes})
    write_atomically(path, chain((header,), container.data(tensors)))
    return path


def free_path(path: Path, existing: Existing = "number") -> Path:
    """Return ``path``, or the first of ``stem-2``, ``stem-3``, … that is not taken.

    Raises:
        ValueError: If it is taken and ``existing`` is ``refuse``.
    """
    if existing == "replace" or not path.exists():
        return path
    if existing == "refuse":
        raise ValueError(f"{path.name} exists already in {path.parent}: choose another name")
    number = 2
    while (numbered := path.with_name(f"{path.stem}-{number}{path.suffix}")).exists():
        number += 1
    return numbered


def write_atomically(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a file under a temporary name beside it, flush it to disk, then rename it.

    Raises:
        OSError: If it cannot be written; the temporary file is removed and ``path`` is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            message = f"the disk is full: cannot write {path}; free some space and save again"
            raise OSError(errno.ENOSPC, message) from error
        raise
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
    _flush_folder(path.parent)


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes left of writing ``path``; nobody may be writing it now."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        leftover.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut, where folders can be opened (not Windows)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _require_finite(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> None:
    bad = [key for key, tensor in tensors.items() if not bool(tensor.isfinite().all())]
    if bad:
        raise ValueError(
            f"{len(bad)} tensors are not finite in {str(dtype).removeprefix('torch.')}, the first "
            f"is {bad[0]}; save as bf16 or fp32, or from an earlier state of the run"
        )
