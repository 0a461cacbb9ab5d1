"""The table between canonical layer names and diffusers', by rule from the block structure.

Canonical is what shared files use: LDM for the SDXL UNet and both VAEs, BFL for FLUX. One
canonical layer is one diffusers module, except in FLUX, where BFL fuses what diffusers splits:
query, key, value (``qkv``) and, in single-stream blocks, those and the MLP (``linear1``).

Source:
    CompVis/latent-diffusion and black-forest-labs/flux module trees; diffusers
    ``UNet2DConditionModel``, ``FluxTransformer2DModel``, ``AutoencoderKL``.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from .layouts.flux import FluxLayout
from .layouts.unet import UNetLayout
from .layouts.vae import VAELayout


@dataclass(frozen=True)
class Part:
    """What one diffusers module holds of a canonical layer."""

    module: str
    """diffusers path."""
    rows: int | None = None
    """Output rows of the canonical layer it holds; parts follow each other. None: all."""
    swapped: bool = False
    """Whether its two halves of rows stand in the other order."""


Names = Mapping[str, tuple[Part, ...]]
"""Canonical module -> the diffusers modules that hold it."""

_UNET_ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_UNET_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
}
_UNET_TRANSFORMER = ("norm", "proj_in", "proj_out")
_UNET_TRANSFORMER_BLOCK = (
    *(f"attn{n}.{part}" for n in (1, 2) for part in ("to_q", "to_k", "to_v", "to_out.0")),
    *("ff.net.0.proj", "ff.net.2", "norm1", "norm2", "norm3"),
)
_VAE_RESNET = ("norm1", "conv1", "norm2", "conv2")
_VAE_ATTENTION = {
    "norm": "group_norm",
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "proj_out": "to_out.0",
}
_FLUX_ENDS = {
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "time_in": "time_text_embed.timestep_embedder",
    "vector_in": "time_text_embed.text_embedder",
    "guidance_in": "time_text_embed.guidance_embedder",
    "final_layer.linear": "proj_out",
}
_FLUX_STREAMS = {
    "img": {
        "mod.lin": "norm1.linear",
        "attn.norm.query_norm": "attn.norm_q",
        "attn.norm.key_norm": "attn.norm_k",
        "attn.proj": "attn.to_out.0",
        "mlp.0": "ff.net.0.proj",
        "mlp.2": "ff.net.2",
    },
    "txt": {
        "mod.lin": "norm1_context.linear",
        "attn.norm.query_norm": "attn.norm_added_q",
        "attn.norm.key_norm": "attn.norm_added_k",
        "attn.proj": "attn.to_add_out",
        "mlp.0": "ff_context.net.0.proj",
        "mlp.2": "ff_context.net.2",
    },
}
_FLUX_QKV = {
    "img": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
}
_FLUX_SINGLE = {
    "linear2": "proj_out",
    "modulation.lin": "norm.linear",
    "norm.query_norm": "attn.norm_q",
    "norm.key_norm": "attn.norm_k",
}


def unet_names(layout: UNetLayout) -> Names:
    """Return the table of an SDXL UNet: every module that has weights."""
    pairs = dict(_UNET_ENDS)
    for block in layout.blocks():
        ours, theirs = block.canonical, block.diffusers
        if block.kind == "resample":
            pairs[ours] = theirs
        elif block.kind == "resnet":
            pairs |= {f"{ours}.{a}": f"{theirs}.{b}" for a, b in _UNET_RESNET.items()}
            if block.in_channels != block.out_channels:
                pairs[f"{ours}.skip_connection"] = f"{theirs}.conv_shortcut"
        else:
            same = list(_UNET_TRANSFORMER)
            for index in range(block.depth):
                same += [f"transformer_blocks.{index}.{name}" for name in _UNET_TRANSFORMER_BLOCK]
            pairs |= {f"{ours}.{name}": f"{theirs}.{name}" for name in same}
    return _whole(pairs)


def flux_names(layout: FluxLayout) -> Names:
    """Return the table of a FLUX transformer: every module that has weights."""
    hidden = layout.hidden
    names: dict[str, tuple[Part, ...]] = {}
    for ours, theirs in _FLUX_ENDS.items():
        if ours == "guidance_in" and not layout.guidance:
            continue
        if ours.endswith("_in") and theirs.startswith("time_text_embed"):
            for a, b in (("in_layer", "linear_1"), ("out_layer", "linear_2")):
                names[f"{ours}.{a}"] = (Part(f"{theirs}.{b}"),)
        else:
            names[ours] = (Part(theirs),)
    # BFL's last modulation gives shift then scale, diffusers' scale then shift.
    names["final_layer.adaLN_modulation.1"] = (Part("norm_out.linear", swapped=True),)
    for index in range(layout.double_blocks):
        theirs = f"transformer_blocks.{index}"
        for stream, pairs in _FLUX_STREAMS.items():
            ours = f"double_blocks.{index}.{stream}"
            names |= {f"{ours}_{a}": (Part(f"{theirs}.{b}"),) for a, b in pairs.items()}
            names[f"{ours}_attn.qkv"] = tuple(
                Part(f"{theirs}.{name}", hidden) for name in _FLUX_QKV[stream]
            )
    for index in range(layout.single_blocks):
        ours, theirs = f"single_blocks.{index}", f"single_transformer_blocks.{index}"
        names |= {f"{ours}.{a}": (Part(f"{theirs}.{b}"),) for a, b in _FLUX_SINGLE.items()}
        names[f"{ours}.linear1"] = (
            *(Part(f"{theirs}.{name}", hidden) for name in _FLUX_QKV["img"]),
            Part(f"{theirs}.proj_mlp", layout.mlp),
        )
    return names


def vae_names(layout: VAELayout) -> Names:
    """Return the table of a VAE: every module that has weights."""
    pairs = {name: name for name in ("quant_conv", "post_quant_conv") if layout.quant_conv}
    for half in ("encoder", "decoder"):
        pairs |= {f"{half}.{name}": f"{half}.{name}" for name in ("conv_in", "conv_out")}
        pairs[f"{half}.norm_out"] = f"{half}.conv_norm_out"
        ours, theirs = f"{half}.mid.attn_1", f"{half}.mid_block.attentions.0"
        pairs |= {f"{ours}.{a}": f"{theirs}.{b}" for a, b in _VAE_ATTENTION.items()}
    for block in layout.blocks():
        ours, theirs = block.canonical, block.diffusers
        if block.kind == "resample":
            pairs[ours] = theirs
            continue
        pairs |= {f"{ours}.{name}": f"{theirs}.{name}" for name in _VAE_RESNET}
        if block.in_channels != block.out_channels:
            pairs[f"{ours}.nin_shortcut"] = f"{theirs}.conv_shortcut"
    return _whole(pairs)


def _whole(pairs: Mapping[str, str]) -> Names:
    return {ours: (Part(theirs),) for ours, theirs in pairs.items()}
