"""The tiny models' weights: SDXL's pretrained on emoji, or untrained ones made from names."""

import hashlib
import re
from pathlib import Path

import torch
from torch import Tensor

from ...host import Family
from ..checkpoint import read_weights, split_parts
from ..layouts.vae import VAELayout
from ..shapes import model_shapes
from .specs import spec

_NORM = re.compile(r"(norm\w*|in_layers\.0|out_layers\.0|unet\.out\.0)\.(weight|scale)$")
_RESIDUAL = re.compile(
    r"(to_out\.0|proj_out|out_layers\.3|ff\.net\.2|conv2|fc2|out_proj|wo|SelfAttention\.o"
    r"|attn\.proj|mlp\.2|linear2)\.weight$"
)
RESIDUAL_GAIN = 0.5
"""Layers that end a residual branch start smaller, so that depth does not raise the output."""
LOG_VARIANCE = -6.0
"""Where the VAE's log variance starts: latents much larger than their noise."""


PRETRAINED = {"sdxl": Path(__file__).with_name("sdxl.safetensors")}
"""Checkpoints in fp16, by family; ``tools/pretrain_tiny.py`` made them."""


def tiny_state_dict(family: Family, *, pretrained: bool = True) -> dict[str, dict[str, Tensor]]:
    """Return the weights of a tiny model; the same bits on every machine and at every call.

    Args:
        family: SDXL's are pretrained; FLUX's are untrained: finite, of sensible size, and made
            from the tensors' names.
        pretrained: False gives untrained ones for SDXL, too.

    Returns:
        ``{component: {name: tensor}}``, float32 on the CPU. Components are ``unet``, ``vae``,
        ``clip_l`` and ``clip_g`` (SDXL) or ``t5xxl`` (FLUX). Names are those of shared files:
        LDM (UNet, VAE) and BFL (FLUX) without prefix, transformers' for the text encoders.

    Raises:
        ValueError: If there is no such family.
    """
    sizes = spec(family)
    if pretrained and family in PRETRAINED:
        return _read(PRETRAINED[family])
    weights = {
        component: {
            name: _initial(f"{family}.{component}.{name}", shape) for name, shape in named.items()
        }
        for component, named in model_shapes(sizes).items()
    }
    _scale_latents(weights["vae"], sizes.vae)
    return weights


def _read(file: Path) -> dict[str, dict[str, Tensor]]:
    parts, _ = split_parts(read_weights(file), file.name)
    return {part: {n: t.float() for n, t in named.items()} for part, named in parts.items()}


def _initial(name: str, shape: tuple[int, ...]) -> Tensor:
    if _NORM.search(name):
        return torch.ones(shape)
    if len(shape) == 1:
        return torch.zeros(shape)
    if "embedding" in name or name.endswith("shared.weight"):
        return _uniform(name, shape, 0.1 if "position" in name else 1.0)
    deviation = torch.Size(shape[1:]).numel() ** -0.5
    return _uniform(name, shape, deviation * (RESIDUAL_GAIN if _RESIDUAL.search(name) else 1.0))


def _uniform(name: str, shape: tuple[int, ...], deviation: float) -> Tensor:
    """Draw from a uniform distribution: normal draws differ between CPUs in the last bit."""
    seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
    generator = torch.Generator().manual_seed(seed % 2**63)
    return (torch.rand(shape, generator=generator) * 2.0 - 1.0) * (3.0**0.5 * deviation)


def _scale_latents(vae: dict[str, Tensor], layout: VAELayout) -> None:
    """Set the convolutions at the latents so that the network sees about unit variance."""
    channels = layout.latent_channels
    mean, log_variance = torch.eye(2 * channels).chunk(2)
    gain = 1.0 / layout.scale
    vae["quant_conv.weight"] = torch.cat((mean * gain, log_variance * 0.1))[..., None, None]
    vae["quant_conv.bias"][:channels] = layout.shift
    vae["quant_conv.bias"][channels:] = LOG_VARIANCE
    vae["post_quant_conv.weight"] = (torch.eye(channels) * layout.scale)[..., None, None]
