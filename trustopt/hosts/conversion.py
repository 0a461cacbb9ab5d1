"""Weights from a shared file's names to diffusers' and transformers' modules."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from .names import Names

_PARAMETERS = {"weight": "weight", "bias": "bias", "scale": "weight"}
"""Last part of a canonical tensor name -> the diffusers parameter; BFL calls norms' ``scale``."""


def to_diffusers(weights: Mapping[str, Tensor], names: Names) -> dict[str, Tensor]:
    """Rename, split and reorder a network's or VAE's weights for its diffusers module.

    Args:
        weights: Tensors by canonical name.
        names: The table of the same network.

    Returns:
        Tensors by diffusers name, views of the given ones wherever possible.
    """
    converted: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        module, _, kind = name.rpartition(".")
        start = 0
        for part in names[module]:
            rows = tensor if part.rows is None else tensor[start : start + part.rows]
            start += part.rows or 0
            if part.swapped:
                rows = swap_halves(rows, 0)
            if ".attentions." in part.module and rows.ndim == 4:
                rows = rows[:, :, 0, 0]  # LDM's VAE attends through 1 x 1 convolutions
            converted[f"{part.module}.{_PARAMETERS[kind]}"] = rows
    return converted


def swap_halves(tensor: Tensor, dim: int) -> Tensor:
    """Return the two halves along ``dim`` in the other order."""
    return torch.cat(tuple(reversed(tensor.chunk(2, dim))), dim)


_OPEN_CLIP_ENDS = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
}
_OPEN_CLIP_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def from_open_clip(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and split an OpenCLIP text encoder, the form SDXL's files hold CLIP-G in.

    Returns:
        Tensors by transformers name; ``logit_scale`` and the like are left out.

    Source:
        mlfoundations/open_clip ``src/open_clip/transformer.py``.
    """
    converted: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        layer = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+?)[._](weight|bias)", name)
        if layer is None:
            if name == "text_projection":  # multiplied from the right there, from the left here
                converted["text_projection.weight"] = tensor.T.contiguous()
            elif name in _OPEN_CLIP_ENDS:
                converted[_OPEN_CLIP_ENDS[name]] = tensor
            continue
        index, module, kind = layer.groups()
        place = f"text_model.encoder.layers.{index}"
        if module == "attn.in_proj":
            for part, rows in zip("qkv", tensor.chunk(3), strict=True):
                converted[f"{place}.self_attn.{part}_proj.{kind}"] = rows
        else:
            converted[f"{place}.{_OPEN_CLIP_LAYER[module]}.{kind}"] = tensor
    return converted
