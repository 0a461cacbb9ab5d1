"""Sizes of the two tiny models, chosen for 64 x 64 pictures (8 x 8 latents).

Each has fewer than 7.4 million parameters with its VAE and text encoders, so that trained
weights in fp16 stay below 15 MB. FLUX keeps the real head of 128 channels, because ComfyUI tells
a FLUX file by it; SDXL keeps the real block structure, so its layer names are a subset of SDXL's.
"""

from ...host import Family
from ..layouts.family import FluxModel, SDXLModel
from ..layouts.flux import FluxLayout
from ..layouts.text import ClipLayout, T5Layout
from ..layouts.unet import UNetLayout
from ..layouts.vae import VAELayout

VOCABULARY = 8192
"""Word ids of the hashing tokenizer; wide enough that few of a thousand words share one."""

TINY_VAE_CHANNELS = (32, 64, 64, 96)
NORM_GROUPS = 8
"""Fewer than SDXL's 32: groups of one or two channels would lose a picture's colours, and what
the network is told of noise and text."""


_CLIP_L = ClipLayout(
    hidden=32,
    heads=2,
    layers=3,
    activation="quick_gelu",
    projection=False,
    vocabulary=VOCABULARY,
)

SDXL = SDXLModel(
    unet=UNetLayout(
        channels=(64, 64, 64),
        depths=(0, 1, 2),
        head_dim=32,
        context_dim=96,
        pooled_dim=64,
        norm_groups=NORM_GROUPS,
    ),
    vae=VAELayout(
        latent_channels=4,
        scale=0.13025,
        channels=TINY_VAE_CHANNELS,
        resnets=1,
        norm_groups=NORM_GROUPS,
    ),
    clip_l=_CLIP_L,
    clip_g=ClipLayout(
        hidden=64,
        heads=2,
        layers=3,
        activation="gelu",
        projection=True,
        vocabulary=VOCABULARY,
        pad_with_end=False,
    ),
)

FLUX = FluxModel(
    unet=FluxLayout(hidden=128, double_blocks=2, single_blocks=4, context_dim=64, pooled_dim=32),
    # ComfyUI builds a VAE from a config with 1 x 1 convolutions around the latents only.
    vae=VAELayout(
        latent_channels=16,
        scale=0.3611,
        shift=0.1159,
        channels=TINY_VAE_CHANNELS,
        resnets=1,
    ),
    clip_l=_CLIP_L,
    t5xxl=T5Layout(
        hidden=64, heads=2, head_dim=32, mlp=160, layers=2, vocabulary=VOCABULARY, tokens=64
    ),
)

PICTURE_SIZE = 64
"""Side of the pictures both models are made for, pixels."""


def spec(family: Family) -> SDXLModel | FluxModel:
    """Return the sizes of a family's tiny model.

    Raises:
        ValueError: If there is no such family.
    """
    if family == "sdxl":
        return SDXL
    if family == "flux":
        return FLUX
    raise ValueError(f"no tiny model of family {family!r}; choose sdxl or flux")
