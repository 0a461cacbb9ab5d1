"""Builds diffusers' and transformers' modules from layouts and shared-file weights."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .conversion import to_diffusers
from .layouts.flux import FluxLayout
from .layouts.text import ClipLayout, T5Layout
from .layouts.unet import UNetLayout
from .layouts.vae import VAELayout
from .names import flux_names, unet_names, vae_names


def build_unet(layout: UNetLayout, weights: Mapping[str, Tensor], dtype: torch.dtype) -> nn.Module:
    """Return diffusers' SDXL UNet with weights by LDM name."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        module = UNet2DConditionModel(**layout.diffusers_config())
    return _loaded(module, to_diffusers(weights, unet_names(layout)), dtype)


def build_flux(layout: FluxLayout, weights: Mapping[str, Tensor], dtype: torch.dtype) -> nn.Module:
    """Return diffusers' FLUX transformer with weights by BFL name."""
    from diffusers import FluxTransformer2DModel

    with torch.device("meta"):
        module = FluxTransformer2DModel(**layout.diffusers_config())
    return _loaded(module, to_diffusers(weights, flux_names(layout)), dtype)


def build_vae(layout: VAELayout, weights: Mapping[str, Tensor]) -> nn.Module:
    """Return diffusers' VAE in float32 with weights by LDM name."""
    from diffusers import AutoencoderKL

    with torch.device("meta"):
        module = AutoencoderKL(**layout.diffusers_config())
    return _loaded(module, to_diffusers(weights, vae_names(layout)), torch.float32)


def build_clip(layout: ClipLayout, weights: Mapping[str, Tensor], dtype: torch.dtype) -> nn.Module:
    """Return transformers' CLIP text encoder with weights by transformers name."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    cls = CLIPTextModelWithProjection if layout.projection else CLIPTextModel
    with torch.device("meta"):
        module = cls(CLIPTextConfig(**layout.config()))
    has_level = any(name.startswith("text_model.") for name in module.state_dict())
    prefix = "text_model." if has_level else ""
    renamed = {_after(name, "text_model.", prefix): tensor for name, tensor in weights.items()}
    module.get_submodule(f"{prefix}embeddings").register_buffer(
        "position_ids", torch.arange(layout.positions)[None], persistent=False
    )
    return _loaded(module, renamed, dtype)


def build_t5(layout: T5Layout, weights: Mapping[str, Tensor], dtype: torch.dtype) -> nn.Module:
    """Return transformers' T5 encoder with weights by transformers name."""
    from transformers import T5Config, T5EncoderModel

    with torch.device("meta"):
        module: Any = T5EncoderModel(T5Config(**layout.config()))
    embedding = {"encoder.embed_tokens.weight": weights["shared.weight"]}
    return _loaded(module, embedding | dict(weights), dtype)


def _after(name: str, old: str, new: str) -> str:
    """Return ``name`` with the prefix ``old``, where it has it, replaced."""
    return new + name[len(old) :] if name.startswith(old) else name


def _loaded(module: nn.Module, weights: Mapping[str, Tensor], dtype: torch.dtype) -> nn.Module:
    """Give a module that was built on the meta device its weights in ``dtype``.

    Building there draws no random number and takes no memory; every tensor is the file's own.
    """
    module.load_state_dict({n: t.to(dtype) for n, t in weights.items()}, assign=True)
    left = [n for n, t in (*module.named_parameters(), *module.named_buffers()) if t.is_meta]
    assert not left, f"{type(module).__name__} keeps tensors without values: {left}"
    return module
