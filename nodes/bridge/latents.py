"""Pictures to latents in the network's own scale, as ComfyUI's VAE gives them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from comfy.ldm.models.autoencoder import DiagonalGaussianRegularizer
from torch import Tensor

from ...trustopt.host import LatentDistribution


def encode_pixels(vae: Any, model: Any, pixels: Tensor) -> LatentDistribution:
    """Encode pictures to the VAE's posterior, in the space the network trains in.

    ComfyUI's ``VAE.encode`` gives the posterior's mean. The deviation is read on its way where
    the VAE has one; it is zero for one without (TAESD), or if ComfyUI ran out of memory and
    encoded in tiles.

    Args:
        vae: ComfyUI's VAE.
        model: ComfyUI's MODEL, whose latent format applies.
        pixels: ``(B, 3, H, W)`` float32 in [0, 1].

    Returns:
        Mean and deviation ``(B, C, h, w)``, float32 on the CPU.

    Raises:
        ValueError: If the VAE's latents are not the network's.
    """
    with torch.inference_mode(True):
        # One by one, a picture's latents are the same bits whatever batch it comes in.
        parts = [_encode(vae, model.model, picture[None]) for picture in pixels]
        mean, std = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    with torch.inference_mode(False):
        return LatentDistribution(mean=mean.clone(), std=std.clone())


def _encode(vae: Any, network: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    with recorded_deviations(vae) as deviations:
        mean = vae.encode(pixels.movedim(1, -1))
    _check(mean, pixels, network.latent_format.latent_channels)
    mean = mean.to("cpu", torch.float32)
    # One picture gives one deviation; tiles give many.
    std = deviations[0] if len(deviations) == 1 else torch.zeros_like(mean)
    # process_in is affine, so the deviation's scale is the difference of two constants.
    zero, one = (network.process_latent_in(torch.full_like(mean, n)) for n in (0.0, 1.0))
    return network.process_latent_in(mean), std * (one - zero)


@contextmanager
def recorded_deviations(vae: Any) -> Iterator[list[Tensor]]:
    """Collect the posterior's standard deviation of everything encoded inside the block."""
    deviations: list[Tensor] = []
    regularization = getattr(vae.first_stage_model, "regularization", None)
    if not isinstance(regularization, DiagonalGaussianRegularizer):
        yield deviations
        return

    def record(_: Any, inputs: tuple[Tensor, ...], __: Any) -> None:
        log_variance = inputs[0].chunk(2, dim=1)[1].float().clamp(-30.0, 20.0)
        deviations.append(torch.exp(0.5 * log_variance).to("cpu"))

    handle = regularization.register_forward_hook(record)
    try:
        yield deviations
    finally:
        handle.remove()


def _check(latents: Tensor, pixels: Tensor, channels: int) -> None:
    wanted = (len(pixels), channels, pixels.shape[2] // 8, pixels.shape[3] // 8)
    if tuple(latents.shape) != wanted:
        raise ValueError(
            f"VAE gives latents of shape {tuple(latents.shape)}, this MODEL takes {wanted}: "
            "connect the VAE of the same checkpoint (SDXL: sdxl_vae; FLUX: ae)"
        )
