"""Captions to prompts, and prompts to what the network takes beside the latents."""

from collections.abc import Sequence
from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from ...trustopt.host import Conditioning, Family, Geometry, Prompt

Conditions = dict[str, Any]
"""ComfyUI's condition objects (``comfy.conds``) of one image, by argument of ``apply_model``."""


def encode_captions(clip: Any, captions: Sequence[str]) -> list[Prompt]:
    r"""Encode captions, each text once.

    Captions are literal: ``saber_(fate)`` is a name, not an emphasis, and ``\\(`` is a bracket.

    Args:
        clip: ComfyUI's CLIP.
        captions: Any number of texts, of any length.

    Returns:
        ``context (T, D)`` and ``pooled (P,)`` of each caption, float32 on the CPU.

    Raises:
        ValueError: If the text encoder gives no pooled vector; both families need one.
    """
    prompts = {caption: _encode(clip, caption) for caption in dict.fromkeys(captions)}
    return [prompts[caption] for caption in captions]


def _encode(clip: Any, caption: str) -> Prompt:
    with torch.inference_mode(True):
        context, pooled = clip.encode_from_tokens(_tokens(clip, caption), return_pooled=True)
    return _prompt(context, pooled)


def encode_in_training(clip: Any, captions: Sequence[str]) -> list[Prompt]:
    """Encode captions with gradients, the text encoders being loaded and in a session.

    What ``CLIP.encode_from_tokens`` does, but for loading the model anew at every call.
    """
    encoders, device = clip.cond_stage_model, clip.patcher.load_device
    encoders.reset_clip_options()
    if clip.layer_idx is not None:
        encoders.set_clip_options({"layer": clip.layer_idx})
    encoders.set_clip_options({"execution_device": device})
    with comfy.model_management.cuda_device_context(device):
        return [
            _prompt(*encoders.encode_token_weights(_tokens(clip, caption))[:2])
            for caption in captions
        ]


def _tokens(clip: Any, caption: str) -> Any:
    return clip.tokenize(caption, disable_weights=True)


def _prompt(context: Tensor, pooled: Tensor | None) -> Prompt:
    if pooled is None:
        raise ValueError(
            "CLIP gives no pooled vector, which SDXL and FLUX need: load both text encoders of "
            "the checkpoint (SDXL: clip_l and clip_g; FLUX: clip_l and t5xxl)"
        )
    return {"context": _normal(context[0]), "pooled": _normal(pooled[0])}


def _normal(tensor: Tensor) -> Tensor:
    """Return a float32 copy on the CPU that is no inference tensor."""
    with torch.inference_mode(False):
        return tensor.to("cpu", torch.float32, copy=True).clone()


def check_prompt(prompt: Prompt, model: Any, family: Family) -> None:
    """Check that a text encoder belongs to a MODEL.

    Raises:
        ValueError: If a width differs from what the network takes.
    """
    config = model.model.model_config.unet_config
    if family == "sdxl":
        wanted = (config["context_dim"], config["adm_in_channels"] - 6 * 256)
    else:
        wanted = (config["context_in_dim"], config["vec_in_dim"])
    given = (prompt["context"].shape[-1], prompt["pooled"].shape[-1])
    if given != wanted:
        raise ValueError(
            f"CLIP gives vectors of widths {given}, this {family} MODEL takes {wanted}: connect "
            "the text encoders of the same checkpoint (SDXL: clip_l and clip_g; FLUX: clip_l and "
            "t5xxl)"
        )


def conditions_of(
    network: Any, noised: Tensor, conditioning: Conditioning, device: torch.device
) -> list[Conditions]:
    """Return each image's conditions, made by ComfyUI from that image's own caption and sizes.

    Args:
        network: ComfyUI's ``BaseModel``.
        noised: ``(B, C, h, w)``.
        conditioning: B prompts and geometries.
        device: The model's device.

    Raises:
        ValueError: If there are not as many prompts and geometries as images.
    """
    counts = (len(noised), len(conditioning.prompts), len(conditioning.geometry))
    if len(set(counts)) > 1:
        raise ValueError(
            "a batch needs one prompt and one geometry an image, got {} images, {} prompts and "
            "{} geometries".format(*counts)
        )
    conditions = []
    for image, prompt, geometry in zip(
        noised.split(1), conditioning.prompts, conditioning.geometry, strict=True
    ):
        made = network.extra_conds(
            cross_attn=_normal(prompt["context"])[None],
            pooled_output=_normal(prompt["pooled"])[None],
            guidance=conditioning.guidance,
            noise=image,
            device=device,
            prompt_type="positive",
            **size_labels(geometry),
        )
        conditions.append(
            {n: c.process_cond(batch_size=1, device=device, area=None) for n, c in made.items()}
        )
    return conditions


def size_labels(geometry: Geometry) -> dict[str, int]:
    """Return SDXL's six numbers as ComfyUI names them: ``width`` is the original's."""
    return {
        "width": geometry.original[0],
        "height": geometry.original[1],
        "crop_w": geometry.crop[0],
        "crop_h": geometry.crop[1],
        "target_width": geometry.target[0],
        "target_height": geometry.target[1],
    }


def batched(conditions: Sequence[Conditions]) -> list[tuple[list[int], dict[str, Any]]]:
    """Join images that one forward pass can hold, each still with its own conditions.

    ComfyUI's own rule decides: SDXL contexts of 77 and 154 tokens join, since repeating a context
    leaves cross-attention as it was; FLUX contexts join only at equal token counts, since its
    attention sees text and picture together. Nothing is padded, cut or averaged.

    Args:
        conditions: One entry an image.

    Returns:
        Each group's image indices and arguments of ``apply_model``, concatenated in that order.
    """
    groups: list[list[int]] = []
    for index, own in enumerate(conditions):
        fitting = (g for g in groups if all(_join(conditions[i], own) for i in g))
        group = next(fitting, None)
        if group is None:
            groups.append([index])
        else:
            group.append(index)
    return [(group, _concatenate([conditions[i] for i in group])) for group in groups]


def _join(one: Conditions, other: Conditions) -> bool:
    return one.keys() == other.keys() and all(one[n].can_concat(other[n]) for n in one)


def _concatenate(conditions: list[Conditions]) -> dict[str, Any]:
    first, rest = conditions[0], conditions[1:]
    return {name: own.concat([c[name] for c in rest]) for name, own in first.items()}
