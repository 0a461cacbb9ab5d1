"""Makes a ``DiffusersHost`` of the embedded tiny models."""

import torch

from ..host import Family
from .diffusers_host import DiffusersHost
from .flux import FluxDenoiser
from .modules import build_clip, build_flux, build_t5, build_unet, build_vae
from .noise_levels import sdxl_sigmas
from .sdxl import SDXLDenoiser
from .text import ClipEncoder, FluxText, SDXLText, T5Encoder
from .tiny.specs import TinySDXL, spec
from .tiny.tokenizer import word_ids
from .tiny.weights import tiny_state_dict

FLUX_DEV_SHIFT = 1.15
"""mu of FLUX.1-dev at 1024 x 1024 pixels, the value ComfyUI uses at every size."""


def load_tiny(
    family: Family, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> DiffusersHost:
    """Return the embedded tiny model of a family; nothing is downloaded.

    Raises:
        ValueError: If there is no such family.
    """
    sizes, weights = spec(family), tiny_state_dict(family)
    clip_l = ClipEncoder(build_clip(sizes.clip_l, weights["clip_l"], dtype), sizes.clip_l, word_ids)
    if isinstance(sizes, TinySDXL):
        clip_g = build_clip(sizes.clip_g, weights["clip_g"], dtype)
        text = SDXLText(clip_l, ClipEncoder(clip_g, sizes.clip_g, word_ids))
        network = build_unet(sizes.unet, weights["unet"], dtype)
        denoiser = SDXLDenoiser(network, sizes.unet, prediction="eps", sigmas=sdxl_sigmas())
    else:
        t5xxl = build_t5(sizes.t5xxl, weights["t5xxl"], dtype)
        text = FluxText(clip_l, T5Encoder(t5xxl, sizes.t5xxl, word_ids))
        network = build_flux(sizes.unet, weights["unet"], dtype)
        denoiser = FluxDenoiser(network, sizes.unet, flow_shift=FLUX_DEV_SHIFT)
    vae = build_vae(sizes.vae, weights["vae"])
    return DiffusersHost(denoiser, vae, text, model_name=f"tiny-{family}", device=device)
