"""Weights from a shared file's names to diffusers' and transformers' modules."""

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
