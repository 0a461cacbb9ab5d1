"""The node that exports a LoRA: another format, another precision, another name."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ..trustopt.adapters import read_lora, save_lora
from ..trustopt.adapters.formats import from_tensors
from ..trustopt.adapters.keys import model_family
from ..trustopt.adapters.patch import LayerPatch
from ..trustopt.config import check_name
from ..trustopt.host import Family
from .io_types import CATEGORY
from .messages import show_text
from .places import output_folders, resolve_lora_file

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Source:
    """A LoRA to export."""

    patches: Mapping[str, LayerPatch]
    metadata: Mapping[str, str]
    dtype: torch.dtype
    """Of its factors."""


class SaveLora(io.ComfyNode):
    """Write a LoRA file in a format of choice, and read it back."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TrustOpt_SaveLora",
            display_name="Save LoRA As",
            category=CATEGORY,
            description="Exports a LoRA to output/loras in another format or precision, and reads "
            "it back. Train LoRA has saved it already: this node is for other programs.",
            search_aliases=["export lora", "convert lora", "kohya", "diffusers", "lora format"],
            is_output_node=True,
            inputs=[
                io.LoraModel.Input(
                    "lora",
                    optional=True,
                    tooltip="A LoRA of this graph. It carries no training metadata: connect path "
                    "as well, or instead, to keep it.",
                ),
                io.String.Input(
                    "path",
                    default="",
                    optional=True,
                    tooltip="A LoRA file: path of Train LoRA, or a name in the loras folders.",
                ),
                io.String.Input(
                    "name",
                    default="my_lora_export",
                    tooltip="Name of the new file in output/loras; a taken name gets a number.",
                ),
                io.Combo.Input(
                    "file_format",
                    options=["kohya", "comfy", "diffusers"],
                    default="kohya",
                    tooltip="kohya loads everywhere. comfy names layers as ComfyUI does. diffusers "
                    "splits FLUX's attention for diffusers (FLUX only).",
                ),
                io.Combo.Input(
                    "dtype",
                    options=["as it is", *DTYPES],
                    default="as it is",
                    optional=True,
                    tooltip="Precision of the file: fp16 and bf16 are half of fp32's size.",
                ),
            ],
            outputs=[io.String.Output("path", tooltip="Where the LoRA was saved.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, name: str | None) -> bool | str:
        try:
            if name is not None:  # linked: its value is not known yet
                check_name(name)
            output_folders().check_writable()
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        name: str,
        file_format: Any,
        lora: Any = None,
        path: str = "",
        dtype: str = "as it is",
    ) -> io.NodeOutput:
        source = source_of(lora, path)
        saved = save_lora(
            output_folders().loras / f"{check_name(name)}.safetensors",
            source.patches,
            family=family_of(source.patches),
            metadata=source.metadata,
            file_format=file_format,
            dtype=DTYPES.get(dtype, source.dtype),
        )
        show_text(check_saved(saved, source), cls.hidden.unique_id)
        return io.NodeOutput(str(saved))


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
