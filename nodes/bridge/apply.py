"""A trained LoRA on a MODEL, the way ComfyUI's own loader puts it there."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import comfy.sd
from torch import Tensor

# What follows a layer's name in a LoRA file: lora_up.weight, alpha, hada_w1_a, lokr_w2, ...
_SUFFIX = re.compile(
    r"\.(lora_(up|down|mid|A|B)(\.\w+)?|alpha|dora_scale|hada_\w+|lokr_\w+|oft_\w+|diff(_b)?)"
    r"(\.weight)?$"
)


@dataclass(frozen=True, kw_only=True)
class AppliedLora:
    """What applying a LoRA gave."""

    model: Any
    """A clone of the MODEL with the LoRA on it."""
    clip: Any
    """A clone of the CLIP with the LoRA on it; None if none was given."""
    mapped: int
    """Layers of the model and the text encoders that the LoRA changes."""
    total: int
    """Layers the file holds weights for."""


def apply_lora(
    model: Any, clip: Any, state_dict: Mapping[str, Tensor], strength: float
) -> AppliedLora:
    """Apply a LoRA to clones of a MODEL and a CLIP; the originals stay as they are.

    Args:
        model: ComfyUI's MODEL.
        clip: ComfyUI's CLIP, or None.
        state_dict: The LoRA's tensors by file key (kohya, diffusers or ComfyUI naming).
        strength: Multiplies the change of every layer.
    """
    own = dict(state_dict)  # ComfyUI's converters may take keys out
    new_model, new_clip = comfy.sd.load_lora_for_models(model, clip, own, strength, strength)
    mapped = _patch_count(new_model) - _patch_count(model)
    if clip is not None:
        mapped += _patch_count(new_clip.patcher) - _patch_count(clip.patcher)
    layers = {_SUFFIX.sub("", key) for key in state_dict}
    return AppliedLora(model=new_model, clip=new_clip, mapped=mapped, total=len(layers))


def _patch_count(patcher: Any) -> int:
    return sum(len(patches) for patches in patcher.patches.values())
