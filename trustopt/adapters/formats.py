"""Patches <-> the tensors of a LoRA file, in the three formats written and all that are read."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from ..host import Family
from . import diffusers_names
from .diffusers_names import Part
from .keys import comfy_name, kohya_name, model_family, split_words
from .patch import SUFFIXES, LayerPatch
from .split import fuse, split
from .targets import is_text_encoder

FileFormat = Literal["kohya", "comfy", "diffusers"]

_ENCODERS = {"te1": "text_encoder", "te2": "text_encoder_2"}
_FINAL_MODULATION = "final_layer.adaLN_modulation.1"
_SPELLINGS = {
    ".lora_up.weight": "lora_up.weight",
    ".lora_down.weight": "lora_down.weight",
    ".lora_mid.weight": "lora_mid.weight",
    "_lora.up.weight": "lora_up.weight",
    "_lora.down.weight": "lora_down.weight",
    ".lora.up.weight": "lora_up.weight",
    ".lora.down.weight": "lora_down.weight",
    ".lora_B.weight": "lora_up.weight",
    ".lora_A.weight": "lora_down.weight",
    ".lora_B.default.weight": "lora_up.weight",
    ".lora_A.default.weight": "lora_down.weight",
    ".lora_linear_layer.up.weight": "lora_up.weight",
    ".lora_linear_layer.down.weight": "lora_down.weight",
    ".alpha": "alpha",
    ".dora_scale": "dora_scale",
    **{f".{suffix}": suffix for form in SUFFIXES for suffix in SUFFIXES[form]},
}


def to_tensors(
    patches: Mapping[str, LayerPatch], file_format: FileFormat, family: Family
) -> dict[str, Tensor]:
    """Return the tensors of a file.

    ``kohya`` (``lora_unet_….lora_down.weight``, 0-d float32 ``.alpha``) loads everywhere.
    ``comfy`` says the same under ComfyUI's own paths. ``diffusers`` is PEFT's form for FLUX:
    q, k, v apart, the scale multiplied into ``lora_B``, no alpha.

    Raises:
        ValueError: If the format cannot hold the patches.
    """
    if file_format == "diffusers":
        return _diffusers_tensors(patches, family)
    layer_name = kohya_name if file_format == "kohya" else comfy_name
    tensors: dict[str, Tensor] = {}
    for name, patch in patches.items():
        for suffix, tensor in patch.tensors.items():
            tensors[f"{layer_name(name)}.{suffix}"] = tensor
        # Explicit even where it is the rank: not every program takes a missing alpha for that.
        alpha = patch.rank if patch.alpha is None else patch.alpha
        if alpha is not None:
            tensors[f"{layer_name(name)}.alpha"] = torch.tensor(float(alpha))
    return tensors


def from_tensors(
    tensors: Mapping[str, Tensor], scales: Mapping[str, float] | None = None
) -> tuple[dict[str, LayerPatch], FileFormat, list[str]]:
    """Return patches by canonical name, the format, and the keys no rule knows.

    Accepted are the layer names of ``read`` in docs/lora-files.md and all suffixes ComfyUI reads.

    Args:
        tensors: A file's tensors.
        scales: ``alpha / r`` by layer key, for files that keep it in their header.

    Raises:
        ValueError: If a layer's tensors are incomplete, or a layer is there in two styles.
    """
    layers: dict[str, dict[str, Tensor]] = defaultdict(dict)
    unknown: list[str] = []
    for key, tensor in tensors.items():
        layer, suffix = split_key(key)
        if suffix is None or parse_layer(layer) is None:
            unknown.append(key)
        else:
            layers[layer][suffix] = tensor
    parts: dict[str, dict[int, LayerPatch]] = defaultdict(dict)
    counts: dict[str, int] = {}
    styles: Counter[FileFormat] = Counter()
    for layer, found in layers.items():
        parsed = parse_layer(layer)
        assert parsed is not None
        part, style = parsed
        styles[style] += 1
        patch = _patch(layer, found, (scales or {}).get(layer))
        if part.name == _FINAL_MODULATION and style == "diffusers":
            patch = _swapped(patch)
        if part.index in parts[part.name] or counts.get(part.name, part.count) != part.count:
            raise ValueError(f"{part.name} is there twice; the second time as {layer}")
        parts[part.name][part.index] = patch
        counts[part.name] = part.count
    patches = {
        name: found[0] if counts[name] == 1 else fuse(name, found, counts[name])
        for name, found in parts.items()
    }
    return patches, styles.most_common(1)[0][0] if styles else "kohya", unknown


def split_key(key: str) -> tuple[str, str | None]:
    """Split a tensor's key into its layer's key and the suffix, None for an unknown one."""
    for spelling, suffix in _SPELLINGS.items():
        if key.endswith(spelling):
            return key[: -len(spelling)], suffix
    return key, None


def parse_layer(key: str) -> tuple[Part, FileFormat] | None:
    """Return the canonical layer of a layer's key in any accepted style, None if unknown."""
    encoder = _text_encoder(key)
    if encoder is not None:
        return Part(encoder[0]), encoder[1]
    for prefix in ("lora_unet_", "lora_transformer_", "lycoris_"):
        if key.startswith(prefix):
            return _network_layer(split_words(key.removeprefix(prefix)), "kohya")
    for prefix in ("diffusion_model.", "transformer.", "unet."):
        if key.startswith(prefix):
            return _network_layer(key.removeprefix(prefix), "comfy")
    return _network_layer(key, "comfy")


def _network_layer(path: str, style: FileFormat) -> tuple[Part, FileFormat] | None:
    if model_family(path) is not None:
        return Part(path), style
    path = path.replace(".processor.", ".")  # diffusers before PEFT
    if path.endswith((".attn1.to_out", ".attn2.to_out")):
        path += ".0"
    for family in ("sdxl", "flux"):
        part = diffusers_names.to_canonical(path, family)
        if part is not None:
            return part, "diffusers"
    return None


def _text_encoder(key: str) -> tuple[str, FileFormat] | None:
    styles: tuple[tuple[str, str, FileFormat], ...] = (
        ("lora_te1_", "te1", "kohya"),
        ("lora_te2_", "te2", "kohya"),
        ("text_encoder.", "te1", "diffusers"),
        ("text_encoder_2.", "te2", "diffusers"),
        ("text_encoders.clip_l.transformer.", "te1", "comfy"),
        ("text_encoders.clip_g.transformer.", "te2", "comfy"),
    )
    for prefix, encoder, style in styles:
        if key.startswith(prefix):
            path = key.removeprefix(prefix)
            path = split_words(path) if style == "kohya" else path
            if path.startswith("encoder.layers."):  # as trainers under transformers 5 write it
                path = f"text_model.{path}"
            return (f"{encoder}.{path}", style) if path.startswith("text_model.") else None
    return None


def _patch(layer: str, found: dict[str, Tensor], header_scale: float | None) -> LayerPatch:
    alpha = found.pop("alpha", None)
    value = None if alpha is None else float(alpha)
    for form, suffixes in SUFFIXES.items():
        if any(suffix in found for suffix in suffixes):
            patch = LayerPatch(form, _without_mid(found), value)
            patch.require_complete(layer)
            if value is None and header_scale is not None and patch.rank is not None:
                return LayerPatch(form, patch.tensors, header_scale * patch.rank)
            return patch
    raise ValueError(f"{layer} has {', '.join(sorted(found)) or 'an alpha'} but no factors")


def _without_mid(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Multiply a Tucker core of a convolution into its down factor: ``(r, in, kh, kw)``."""
    if "lora_mid.weight" not in found:
        return found
    core, down = found.pop("lora_mid.weight"), found["lora_down.weight"]
    full = torch.einsum("mnkl,nj->mjkl", core.float(), down.float().flatten(1))
    return found | {"lora_down.weight": full.to(down.dtype)}


def _swapped(patch: LayerPatch) -> LayerPatch:
    up = diffusers_names.swap_halves(patch.tensors["lora_up.weight"])
    return LayerPatch("lora", {**patch.tensors, "lora_up.weight": up}, patch.alpha)


def _diffusers_tensors(patches: Mapping[str, LayerPatch], family: Family) -> dict[str, Tensor]:
    if family != "flux":
        raise ValueError(
            "the diffusers format is written for FLUX only: ComfyUI drops the attention layers of "
            "an SDXL file in it; choose kohya, which diffusers reads as well"
        )
    tensors: dict[str, Tensor] = {}
    for name, patch in patches.items():
        if patch.form != "lora" or patch.is_dora:
            kind = "dora" if patch.is_dora else patch.form
            raise ValueError(
                f"the diffusers format holds plain LoRA only, and {name} is {kind}; choose kohya"
            )
        for path, part in _diffusers_parts(name, patch):
            tensors[f"{path}.lora_A.weight"] = part.tensors["lora_down.weight"]
            tensors[f"{path}.lora_B.weight"] = part.tensors["lora_up.weight"] * part.scale
    return tensors


def _diffusers_parts(name: str, patch: LayerPatch) -> list[tuple[str, LayerPatch]]:
    if is_text_encoder(name):
        encoder, path = name.split(".", 1)
        return [(f"{_ENCODERS[encoder]}.{path}", patch)]
    paths = [f"transformer.{path}" for path in diffusers_names.flux_paths(name)]
    if name == _FINAL_MODULATION:
        patch = _swapped(patch)
    return list(zip(paths, split(patch, len(paths)), strict=True))
