"""Writing a LoRA in another format and precision, and reading it back."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..trustopt.adapters import read_lora, save_lora
from ..trustopt.adapters.formats import FileFormat, from_tensors
from ..trustopt.adapters.keys import model_family
from ..trustopt.adapters.patch import LayerPatch
from ..trustopt.config import check_name
from ..trustopt.host import Family
from .places import output_folders, resolve_lora_file

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Source:
    """A LoRA to export."""

    patches: Mapping[str, LayerPatch]
    metadata: Mapping[str, str]
    dtype: torch.dtype
    """Of its factors."""


def export(source: Source, name: str, file_format: FileFormat, dtype: str) -> Path:
    """Write a LoRA to ``output/loras`` and return the file.

    Args:
        source: What to write.
        name: Of the file, numbered if it is taken.
        file_format: How its layers are named.
        dtype: A key of ``DTYPES``; another text keeps the source's.
    """
    return save_lora(
        output_folders().loras / f"{check_name(name)}.safetensors",
        source.patches,
        family=family_of(source.patches),
        metadata=source.metadata,
        file_format=file_format,
        dtype=DTYPES.get(dtype, source.dtype),
    )


def source_of(lora: Mapping[str, Tensor] | None, path: str) -> Source:
    """Return what to export: the connected LoRA, else the file; the file's metadata either way.

    Raises:
        ValueError: If there is neither, or it is no LoRA of a known style.
    """
    if lora is None and not path.strip():
        raise ValueError("nothing to save: connect lora or path of Train LoRA")
    file = read_lora(resolve_lora_file(path)) if path.strip() else None
    metadata = dict(file.metadata) if file else {}
    if lora is None:
        assert file is not None
        return Source(file.patches, metadata, dtype_of(file.patches))
    patches, _, unknown = from_tensors(lora)
    if unknown or not patches:
        listed = ", ".join(sorted(unknown)[:3]) or "no layers at all"
        raise ValueError(f"the connected lora has keys in no known style: {listed}")
    return Source(patches, metadata, dtype_of(patches))


def dtype_of(patches: Mapping[str, LayerPatch]) -> torch.dtype:
    """Return the widest dtype of the factors."""
    tensors = [tensor for patch in patches.values() for tensor in patch.tensors.values()]
    return max((t.dtype for t in tensors), key=lambda dtype: dtype.itemsize)


def family_of(patches: Mapping[str, LayerPatch]) -> Family:
    """Return the family the layers belong to; text encoder layers alone are SDXL's."""
    families = [family for family in map(model_family, patches) if family is not None]
    return families[0] if families else "sdxl"


def check_saved(saved: Path, source: Source) -> str:
    """Read a file back and return what to tell the user.

    Raises:
        RuntimeError: If a layer is missing.
    """
    missing = source.patches.keys() - read_lora(saved).patches.keys()
    if missing:
        raise RuntimeError(
            f"{saved} lacks {len(missing)} layers after saving, first {min(missing)}: "
            "report this with the format you chose"
        )
    size = saved.stat().st_size / 1e6
    return f"{saved.name}: {len(source.patches)} layers, {size:.1f} MB, read back whole"
