"""Pictures from a MODEL in training, made by ComfyUI's own text encoding, samplers and VAE."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.sample
import node_helpers
import numpy as np
import torch
from torch import Tensor

from .host import ComfyHost

Condition = list[Any]
"""ComfyUI's CONDITIONING."""


@dataclass(frozen=True, kw_only=True)
class SamplerSettings:
    """How a picture is made; the names are KSampler's."""

    width: int
    height: int
    """Pixels, multiples of the host's ``pixel_multiple``."""
    steps: int
    cfg: float
    sampler_name: str
    scheduler: str


def encode_prompts(
    host: ComfyHost, prompts: Sequence[str], negative: str, guidance: float
) -> tuple[list[Condition], Condition]:
    """Encode prompts as CLIPTextEncode does, emphasis included.

    In a session that trains the text encoders they are encoded as trained so far.

    Args:
        host: Whose CLIP is used.
        prompts: Any number of texts.
        negative: What pictures should not show.
        guidance: FLUX's guidance, as FluxGuidance sets it on the prompts.

    Returns:
        The prompts' conditions in order, and the negative one's.
    """
    clip = host.sampling_clip
    with torch.inference_mode(True):
        *positives, refused = (
            clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in (*prompts, negative)
        )
    if host.family == "flux":
        values = {"guidance": guidance}
        positives = [node_helpers.conditioning_set_values(one, values) for one in positives]
    return positives, refused


def draw_latents(
    host: ComfyHost,
    positive: Condition,
    negative: Condition,
    seed: int,
    settings: SamplerSettings,
) -> Tensor:
    """Sample one picture with the adapters as they are, in a session; KSampler's numbers.

    Training goes on afterwards as if nothing had been sampled.

    Returns:
        Latents ``(1, C, h, w)`` as VAEDecode takes them.

    Raises:
        InterruptProcessingException: If the user pressed Stop.
    """

    def obey(*_: Any) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()

    ratio = host.pixels_per_latent
    shape = (1, host.latent_channels, settings.height // ratio, settings.width // ratio)
    with host.sampling() as model:
        obey()
        device = comfy.model_management.intermediate_device()
        empty = comfy.sample.fix_empty_latent_channels(model, torch.zeros(shape, device=device))
        return comfy.sample.sample(
            model,
            comfy.sample.prepare_noise(empty, seed),
            settings.steps,
            settings.cfg,
            settings.sampler_name,
            settings.scheduler,
            positive,
            negative,
            empty,
            callback=obey,
            disable_pbar=True,
            seed=seed,
        )


def decode_latents(host: ComfyHost, latents: Sequence[Tensor]) -> list[np.ndarray]:
    """Decode pictures one by one; each uint8 ``(H, W, 3)``, rounded as SaveImage does."""
    pictures = []
    with torch.inference_mode(True):
        for one in latents:
            image = host.vae.decode(one)[0]
            pictures.append(np.clip(255.0 * image.cpu().numpy(), 0, 255).astype(np.uint8))
    return pictures
