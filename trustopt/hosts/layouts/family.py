"""Whole models: the layouts of all their parts, full size."""

from dataclasses import dataclass

from .flux import FLUX_TRANSFORMER, FluxLayout
from .text import CLIP_G, CLIP_L, T5_XXL, ClipLayout, T5Layout
from .unet import SDXL_UNET, UNetLayout
from .vae import FLUX_VAE, SDXL_VAE, VAELayout


@dataclass(frozen=True, kw_only=True)
class SDXLModel:
    """An SDXL model: UNet, 4-channel VAE, CLIP-L and CLIP-G."""

    unet: UNetLayout = SDXL_UNET
    vae: VAELayout = SDXL_VAE
    clip_l: ClipLayout = CLIP_L
    clip_g: ClipLayout = CLIP_G


@dataclass(frozen=True, kw_only=True)
class FluxModel:
    """A FLUX model: transformer, 16-channel VAE, CLIP-L and T5."""

    unet: FluxLayout = FLUX_TRANSFORMER
    vae: VAELayout = FLUX_VAE
    clip_l: ClipLayout = CLIP_L
    t5xxl: T5Layout = T5_XXL
