"""Reading a LoRA file of any accepted format, and telling whether it fits a model."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..host import Family, LayerShape
from .formats import FileFormat, from_tensors, split_key
from .keys import model_family
from .patch import LayerPatch

_STYLES = (
    "lora_unet_…, lora_te1_… (kohya); diffusion_model.…, text_encoders.… (ComfyUI); "
    "transformer.…, unet.…, text_encoder.… (diffusers); lora_transformer_…, lycoris_…"
)

# Attention at the outermost level, or a fourth level: SDXL has neither.
_SD1_LAYER = re.compile(r"input_blocks\.([12]\.1|9|10|11)\.|output_blocks\.(6|7|8|9|10|11)\.1\.")


@dataclass(frozen=True, kw_only=True)
class LoraFile:
    """A LoRA file taken apart."""

    name: str
    """Of the file, for people."""
    patches: Mapping[str, LayerPatch]
    """By canonical layer name, tensors in the file's dtype."""
    metadata: Mapping[str, str]
    file_format: FileFormat
    """Style of most keys."""
    family: Family | None
    """From the layer names; None if the file has text encoder layers only."""
    dtypes: Mapping[str, int]
    """dtype name -> number of tensors."""
    num_bytes: int
    """Of the tensors."""
    unknown: tuple[str, ...]
    """Keys no rule knows; always empty from a strict read."""

    @property
    def dtype(self) -> torch.dtype:
        """Return the dtype of most factors; alphas and DoRA's magnitudes may be wider."""
        factors = (
            tensor.dtype
            for patch in self.patches.values()
            for suffix, tensor in patch.tensors.items()
            if suffix != "dora_scale"
        )
        return Counter(factors).most_common(1)[0][0]

    @property
    def algorithms(self) -> list[str]:
        """Return the algorithms of the layers, the most frequent first."""
        kinds = Counter("dora" if p.is_dora else p.form for p in self.patches.values())
        return [kind for kind, _ in kinds.most_common()]

    @property
    def ranks(self) -> dict[int, int]:
        """Return rank -> number of layers, the most frequent first; 0 is a product-free LoKr."""
        return dict(Counter(patch.rank or 0 for patch in self.patches.values()).most_common())

    @property
    def alphas(self) -> dict[float | None, int]:
        """Return alpha -> number of layers, the most frequent first; None where none is given."""
        return dict(Counter(patch.alpha for patch in self.patches.values()).most_common())


def read_lora(path: Path, *, strict: bool = True) -> LoraFile:
    """Read a LoRA file.

    Args:
        path: A .safetensors file.
        strict: Refuse a file with keys no rule knows; otherwise they are listed in ``unknown``.

    Raises:
        ValueError: If it is no readable safetensors file, holds no LoRA, an unknown style of
            keys, a layer with missing factors, an alpha of 0 or less, or layers of two families.
    """
    tensors, metadata = _open(path)
    return take_apart(tensors, metadata, name=path.name, strict=strict)


def take_apart(
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    *,
    name: str,
    strict: bool = True,
) -> LoraFile:
    """Take the tensors of a LoRA file apart, wherever they come from.

    Args:
        tensors: By key, as in the file.
        metadata: Its header.
        name: What to call the file in messages.
        strict: As in ``read_lora``.

    Raises:
        ValueError: As ``read_lora`` does, if the tensors are no LoRA it accepts.
    """
    metadata = metadata or {}
    try:
        patches, file_format, unknown = from_tensors(tensors, _header_scales(tensors, metadata))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    family = _family(name, patches)
    if unknown and (strict or not patches):
        listed = ", ".join(sorted(unknown)[:3])
        raise ValueError(
            f"{name} has {len(unknown)} of {len(tensors)} keys in no known style: {listed}; "
            f"known are {_STYLES}"
        )
    if not patches:
        raise ValueError(f"{name} holds no LoRA layers; it has {len(tensors)} tensors")
    _require_alphas(name, patches)
    return LoraFile(
        name=name,
        patches=patches,
        metadata=metadata,
        file_format=file_format,
        family=family,
        dtypes=Counter(str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()),
        num_bytes=sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()),
        unknown=tuple(sorted(unknown)),
    )


def check_fits(lora: LoraFile, layers: Mapping[str, LayerShape], family: Family) -> None:
    """Check that every layer of a file is one of a model's, with that layer's shape.

    Raises:
        ValueError: If not; names the first keys, and both shapes.
    """
    if lora.family not in (None, family):
        raise ValueError(
            f"{lora.name} is a LoRA of {lora.family}, the model is {family}; its first "
            f"layers are {_listed(lora.patches)}, the model's {_listed(layers)}"
        )
    absent = [name for name in lora.patches if name not in layers]
    if absent:
        raise ValueError(
            f"{lora.name} changes {len(absent)} layers this {family} model does not have: "
            f"{_listed(absent)}; connect the model (and CLIP) it was made for"
        )
    for name, patch in lora.patches.items():
        shape = layers[name]
        wanted = (shape.out_features, shape.in_features * _taps(shape))
        found = patch.size()
        if found[0] != wanted[0] or found[1] not in (None, wanted[1]):
            raise ValueError(
                f"{lora.name} is for another model: {name} is {found} (outputs, inputs) in "
                f"the file and {wanted} in this {family} model"
            )


def _open(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    if path.suffix.lower() not in (".safetensors", ".sft"):
        reason = "pickled files can run code when opened"
        raise ValueError(
            f"{path.name} is refused: only .safetensors files are read, {reason}; "
            "ask its maker for a safetensors file"
        )
    try:
        with safe_open(path, framework="pt") as file:
            keys = list(file.keys())
            # Copies, because the library's tensors are views of the file, which may be replaced.
            return {key: file.get_tensor(key).clone() for key in keys}, file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(
            f"{path.name} is truncated or no safetensors file: {error}; copy or download it again"
        ) from error


def _header_scales(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, float]:
    """Return ``alpha / r`` by layer key from the PEFT settings diffusers puts in the header."""
    try:
        settings = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except json.JSONDecodeError:
        return {}
    scales: dict[str, float] = {}
    for layer in {split_key(key)[0] for key in tensors}:
        component, _, module = layer.partition(".")
        rank = _peft_value(settings, component, module, "r", "rank_pattern")
        alpha = _peft_value(settings, component, module, "lora_alpha", "alpha_pattern")
        if rank and alpha:
            root = settings.get(f"{component}.use_rslora", False)
            scales[layer] = alpha / (rank**0.5 if root else rank)
    return scales


def _peft_value(
    settings: Mapping[str, object], component: str, module: str, key: str, pattern: str
) -> float | None:
    own = settings.get(f"{component}.{pattern}")
    for name, value in (own if isinstance(own, dict) else {}).items():
        if module == name or module.endswith(f".{name}"):
            return float(value)
    value = settings.get(f"{component}.{key}")
    return float(value) if isinstance(value, int | float) else None


def _require_alphas(name: str, patches: Mapping[str, LayerPatch]) -> None:
    for layer, patch in patches.items():
        if patch.form != "oft" and patch.alpha is not None and not patch.alpha > 0.0:
            raise ValueError(
                f"{name} has alpha {patch.alpha} at {layer}, which switches the layer off; "
                "it must be above 0"
            )


def _family(name: str, patches: Mapping[str, LayerPatch]) -> Family | None:
    found: dict[Family, str] = {}
    for layer in patches:
        family = model_family(layer)
        if family is not None:
            found.setdefault(family, layer)
    if len(found) > 1:
        listed = ", ".join(f"{layer} ({family})" for family, layer in found.items())
        raise ValueError(f"{name} mixes model families: {listed}")
    small = next((layer for layer in patches if _SD1_LAYER.match(layer)), None)
    if small is not None:
        raise ValueError(
            f"{name} is a LoRA of Stable Diffusion 1.x or 2.x: it changes {small}, where "
            "SDXL has no attention; only SDXL and FLUX are supported"
        )
    return next(iter(found), None)


def _taps(shape: LayerShape) -> int:
    return shape.kernel_size[0] * shape.kernel_size[1]


def _listed(names: Mapping[str, object] | list[str]) -> str:
    return ", ".join(list(names)[:3])
