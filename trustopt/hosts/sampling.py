"""Pictures from captions: a plain Euler sampler over a host's own ``denoise``."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ..diffusion.timesteps import shift_levels
from ..host import Conditioning, Geometry, Prediction, Prompt
from .diffusers_host import DiffusersHost

GUIDANCE = {"sdxl": 5.0, "flux": 3.5}
"""Default guidance: the scale of classifier-free guidance, or the number FLUX is conditioned on."""

Velocity = Callable[[Tensor, Tensor], Tensor]
"""Latents ``(1, C, h, w)`` and sigma ``(1,)`` -> their derivative by sigma."""


@torch.no_grad()
def sample(
    host: DiffusersHost,
    captions: Sequence[str],
    *,
    size: tuple[int, int],
    steps: int = 20,
    guidance: float | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Draw one picture a caption, inside a session (with its adapters) or outside of one.

    Picture i depends on its caption and ``seed + i`` only, not on the others.

    Args:
        host: The model.
        captions: What to draw.
        size: ``(width, height)`` in pixels, multiples of ``host.pixel_multiple``.
        steps: Network evaluations a picture, >= 1 (twice that with classifier-free guidance).
        guidance: See ``GUIDANCE``, whose value None takes; SDXL at 1 or less runs unguided.
        seed: Of the noise.

    Returns:
        ``(N, height, width, 3)`` uint8.

    Raises:
        ValueError: If the size or the number of steps cannot be.
    """
    width, height = size
    multiple = host.pixel_multiple
    if min(size) < multiple or width % multiple or height % multiple:
        raise ValueError(
            f"size {width} x {height} does not fit {host.family}: "
            f"width and height must be multiples of {multiple}"
        )
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    if guidance is None:
        guidance = GUIDANCE[host.family]
    empty, *prompts = host.encode_prompts(["", *captions])
    pictures = []
    for index, prompt in enumerate(prompts):
        generator = torch.Generator().manual_seed(seed + index)
        ratio = host.pixels_per_latent
        shape = (1, host.latent_channels, height // ratio, width // ratio)
        noise = torch.randn(shape, generator=generator)
        sigmas = sampling_sigmas(host, steps)
        velocity = _velocity(host, prompt, empty, size, guidance)
        pictures.append(host.decode_latents(euler(velocity, noise, sigmas, host.prediction)))
    pixels = torch.cat(pictures) if pictures else torch.zeros(0, 3, height, width)
    return (pixels * 255.0).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def sampling_sigmas(host: DiffusersHost, steps: int) -> Tensor:
    """Return the ``steps + 1`` noise levels a picture passes, from the highest to 0, float32.

    eps and v: evenly spaced timesteps of the table. flow: evenly spaced, shifted by the model's
    own mu.
    """
    if host.sigmas is None:
        shift = math.exp(host.flow_shift or 0.0)
        return shift_levels(torch.linspace(1.0, 0.0, steps + 1), shift)
    table = host.sigmas
    places = torch.linspace(len(table) - 1, 0, steps).round().long()
    return torch.cat((table[places], torch.zeros(1)))


def euler(velocity: Velocity, noise: Tensor, sigmas: Tensor, prediction: Prediction) -> Tensor:
    """Follow the derivative from noise to latents in straight steps.

    Args:
        velocity: Derivative of the noised latents by sigma.
        noise: ``(1, C, h, w)`` of deviation 1.
        sigmas: Falling noise levels, the last 0.
        prediction: ``flow`` starts from the noise itself, eps and v from the noise at the
            highest level.

    Source:
        Karras et al. 2022, arXiv:2206.00364, algorithm 2 without churn and correction.
    """
    highest = sigmas[0]
    latents = noise if prediction == "flow" else noise * (highest**2 + 1.0).sqrt()
    for sigma, lower in pairwise(sigmas):
        latents = latents + velocity(latents, sigma[None]) * (lower - sigma)
    return latents


def _velocity(
    host: DiffusersHost, prompt: Prompt, empty: Prompt, size: tuple[int, int], guidance: float
) -> Velocity:
    """Return the derivative by sigma, guided as the family is."""
    picture = Geometry(original=size, crop=(0, 0), target=size)
    guided = host.family == "sdxl" and guidance > 1.0
    prompts = [prompt, empty] if guided else [prompt]
    conditioning = Conditioning(
        prompts=prompts, geometry=[picture] * len(prompts), guidance=guidance
    )

    def velocity(latents: Tensor, sigma: Tensor) -> Tensor:
        count = len(prompts)
        output = host.denoise(latents.repeat(count, 1, 1, 1), sigma.repeat(count), conditioning)
        output = output.cpu()
        if guided:
            with_text, without = output.chunk(2)
            output = without + guidance * (with_text - without)
        return derivative(output, latents, sigma, host.prediction)

    return velocity


def derivative(output: Tensor, latents: Tensor, sigma: Tensor, prediction: Prediction) -> Tensor:
    r"""Return :math:`d x / d \sigma` from the network's raw output.

    eps and flow: the output itself. v: with :math:`x_0 = x / (\sigma^2 + 1) - \sigma v /
    \sqrt{\sigma^2 + 1}`, :math:`(x - x_0) / \sigma`.
    """
    if prediction != "v":
        return output
    sigma = sigma.view(-1, 1, 1, 1)
    return (latents * sigma / (sigma**2 + 1.0)) + output / (sigma**2 + 1.0).sqrt()
