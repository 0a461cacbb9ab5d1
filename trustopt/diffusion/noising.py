"""Latents, noise and a noise level -> what the network sees and what it should answer.

Letters: B batch, C latent channels, h w latent height and width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..host import Prediction


def draw_noise(
    shape: torch.Size,
    generator: torch.Generator,
    *,
    offset: float = 0.0,
    pyramid_levels: int = 0,
    pyramid_discount: float = 0.3,
) -> Tensor:
    """Draw the noise of a batch, float32 on the CPU.

    Args:
        shape: ``(B, C, h, w)``.
        generator: A CPU generator.
        offset: Scale of one extra draw a channel, which lets very dark and bright pictures be
            learned (crosslabs.org, "Diffusion with Offset Noise").
        pyramid_levels: Coarser noises added, each half the size of the one before, then the sum is
            scaled back to deviation 1 (Whitaker 2023, "Multi-Resolution Noise").
        pyramid_discount: Weight of level i is ``pyramid_discount ** i``.
    """
    noise = torch.randn(shape, generator=generator)
    if offset:
        noise = noise + offset * torch.randn(*shape[:2], 1, 1, generator=generator)
    if pyramid_levels:
        noise = _add_pyramid(noise, generator, pyramid_levels, pyramid_discount)
    return noise


def _add_pyramid(noise: Tensor, generator: torch.Generator, levels: int, discount: float) -> Tensor:
    height, width = noise.shape[2:]
    for level in range(1, levels + 1):
        size = (max(1, height >> level), max(1, width >> level))
        coarse = torch.randn(*noise.shape[:2], *size, generator=generator)
        noise = noise + discount**level * F.interpolate(
            coarse, size=(height, width), mode="bilinear"
        )
        if size == (1, 1):
            break
    return noise / noise.flatten(1).std(1).view(-1, 1, 1, 1)


def add_noise(latents: Tensor, noise: Tensor, sigma: Tensor, prediction: Prediction) -> Tensor:
    """Return the noised latents ``(B, C, h, w)`` in the convention of ``Host``.

    Args:
        latents: Clean latents in the network's scale, float32.
        noise: Same shape.
        sigma: Noise levels ``(B,)`` float32.
        prediction: ``flow`` interpolates, ``eps`` and ``v`` add (variance exploding).
    """
    sigma = sigma.view(-1, 1, 1, 1)
    if prediction == "flow":
        return (1.0 - sigma) * latents + sigma * noise
    return latents + sigma * noise


def target_of(latents: Tensor, noise: Tensor, sigma: Tensor, prediction: Prediction) -> Tensor:
    """Return what the network should output ``(B, C, h, w)``.

    eps: the noise. v: ``(noise - sigma latents) / sqrt(sigma^2 + 1)``. flow: ``noise - latents``,
    the derivative of the noised latents by sigma.

    Source:
        Ho et al. 2020 (arXiv:2006.11239); Salimans & Ho 2022 (arXiv:2202.00512), appendix D, with
        alpha = 1/sqrt(sigma^2 + 1); Lipman et al. 2023 (arXiv:2210.02747).
    """
    if prediction == "eps":
        return noise
    if prediction == "flow":
        return noise - latents
    sigma = sigma.view(-1, 1, 1, 1)
    return (noise - sigma * latents) * torch.rsqrt(sigma.square() + 1.0)
