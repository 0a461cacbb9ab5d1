"""Diffusers module paths <-> canonical names, for SDXL's UNet and the FLUX transformer.

FLUX differs in structure: diffusers holds q, k, v (and the MLP of single blocks) as layers of
their own where the canonical model has one matrix. A path therefore maps to a canonical layer and
the part of its output rows it stands for.
"""

import re
from typing import NamedTuple

from torch import Tensor

from ..host import Family


class Part(NamedTuple):
    """The rows of a canonical layer that one diffusers layer holds."""

    name: str
    """Canonical layer."""
    index: int = 0
    """Position among the layer's parts."""
    count: int = 1
    """Parts the layer has: 3 for ``qkv``, 4 for ``linear1``, else 1."""


_SDXL_RESNET = {
    "conv1": "in_layers.2",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_SDXL_TOP = {
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
_FLUX_TOP = {
    "x_embedder": "img_in",
    "context_embedder": "txt_in",
    "time_text_embed.timestep_embedder.linear_1": "time_in.in_layer",
    "time_text_embed.timestep_embedder.linear_2": "time_in.out_layer",
    "time_text_embed.text_embedder.linear_1": "vector_in.in_layer",
    "time_text_embed.text_embedder.linear_2": "vector_in.out_layer",
    "time_text_embed.guidance_embedder.linear_1": "guidance_in.in_layer",
    "time_text_embed.guidance_embedder.linear_2": "guidance_in.out_layer",
    "proj_out": "final_layer.linear",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
}
_FLUX_DOUBLE = {
    "norm1.linear": Part("img_mod.lin"),
    "norm1_context.linear": Part("txt_mod.lin"),
    "attn.to_q": Part("img_attn.qkv", 0, 3),
    "attn.to_k": Part("img_attn.qkv", 1, 3),
    "attn.to_v": Part("img_attn.qkv", 2, 3),
    "attn.add_q_proj": Part("txt_attn.qkv", 0, 3),
    "attn.add_k_proj": Part("txt_attn.qkv", 1, 3),
    "attn.add_v_proj": Part("txt_attn.qkv", 2, 3),
    "attn.to_out.0": Part("img_attn.proj"),
    "attn.to_add_out": Part("txt_attn.proj"),
    "ff.net.0.proj": Part("img_mlp.0"),
    "ff.net.2": Part("img_mlp.2"),
    "ff_context.net.0.proj": Part("txt_mlp.0"),
    "ff_context.net.2": Part("txt_mlp.2"),
}
_FLUX_SINGLE = {
    "norm.linear": Part("modulation.lin"),
    "attn.to_q": Part("linear1", 0, 4),
    "attn.to_k": Part("linear1", 1, 4),
    "attn.to_v": Part("linear1", 2, 4),
    "proj_mlp": Part("linear1", 3, 4),
    "proj_out": Part("linear2"),
}


def to_canonical(path: str, family: Family) -> Part | None:
    """Return the canonical layer (part) of a diffusers module path; None for an unknown path."""
    if family == "flux":
        return _flux_to_canonical(path)
    name = _sdxl_to_canonical(path)
    return None if name is None else Part(name)


def flux_paths(name: str) -> list[str]:
    """Return the diffusers paths that together hold a canonical FLUX layer, in row order.

    Raises:
        ValueError: If the name is not a layer of FLUX.
    """
    for path, top in _FLUX_TOP.items():
        if top == name:
            return [path]
    match = re.fullmatch(r"(double|single)_blocks\.(\d+)\.(.+)", name)
    if match:
        table, stem = (
            (_FLUX_DOUBLE, "transformer_blocks")
            if match[1] == "double"
            else (_FLUX_SINGLE, "single_transformer_blocks")
        )
        paths = [(part.index, path) for path, part in table.items() if part.name == match[3]]
        if paths:
            return [f"{stem}.{match[2]}.{path}" for _, path in sorted(paths)]
    raise ValueError(f"{name} is not a layer of FLUX")


def part_sizes(count: int, rows: int, hidden: int) -> list[int]:
    """Return the output rows of a layer's parts: equal thirds, or q, k, v and the rest."""
    return {1: [rows], 3: [rows // 3] * 3, 4: [hidden] * 3 + [rows - 3 * hidden]}[count]


def swap_halves(rows: Tensor) -> Tensor:
    """Exchange the halves of the first axis.

    The final modulation's rows are shift, scale in BFL's layout and scale, shift in diffusers'.
    """
    return rows.roll(rows.shape[0] // 2, 0)


def _flux_to_canonical(path: str) -> Part | None:
    if path in _FLUX_TOP:
        return Part(_FLUX_TOP[path])
    match = re.fullmatch(r"(single_)?transformer_blocks\.(\d+)\.(.+)", path)
    if match is None:
        return None
    part = (_FLUX_SINGLE if match[1] else _FLUX_DOUBLE).get(match[3])
    stem = "single_blocks" if match[1] else "double_blocks"
    return part and part._replace(name=f"{stem}.{match[2]}.{part.name}")


def _sdxl_to_canonical(path: str) -> str | None:
    """Number LDM's blocks: three a level going down (two and a downsampler), three going up."""
    if path in _SDXL_TOP:
        return _SDXL_TOP[path]
    match = re.fullmatch(r"mid_block\.(attentions|resnets)\.(\d+)\.(.+)", path)
    if match:
        slot = 1 if match[1] == "attentions" else 2 * int(match[2])
        return _sdxl_inner(f"middle_block.{slot}", match[1], match[3])
    match = re.fullmatch(
        r"(down|up)_blocks\.(\d+)\.(attentions|resnets|downsamplers|upsamplers)\.(\d+)\.(.+)", path
    )
    if match is None:
        return None
    level, kind, index = int(match[2]), match[3], int(match[4])
    if kind == "downsamplers":
        return f"input_blocks.{3 * level + 3}.0.op" if match[5] == "conv" else None
    if kind == "upsamplers":
        return f"output_blocks.{3 * level + 2}.2.conv" if match[5] == "conv" else None
    block = f"input_blocks.{3 * level + index + 1}"
    if match[1] == "up":
        block = f"output_blocks.{3 * level + index}"
    return _sdxl_inner(f"{block}.{int(kind == 'attentions')}", kind, match[5])


def _sdxl_inner(block: str, kind: str, path: str) -> str | None:
    if kind == "attentions":
        return f"{block}.{path}"
    return f"{block}.{_SDXL_RESNET[path]}" if path in _SDXL_RESNET else None
