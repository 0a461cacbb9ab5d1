"""Denoising losses of each sample, before weights and means. Letters: B, C, h w as in noising."""

from collections.abc import Callable

import torch
from torch import Tensor

ErrorOf = Callable[[Tensor, Tensor], Tensor]
"""(difference, c) -> error of the same shape; c broadcasts against the difference."""


def _squared(difference: Tensor, c: Tensor) -> Tensor:
    return difference.square()


def _absolute(difference: Tensor, c: Tensor) -> Tensor:
    return difference.abs()


def _pseudo_huber(difference: Tensor, c: Tensor) -> Tensor:
    # 2c(sqrt(d^2 + c^2) - c), written so that it keeps its digits where d is much smaller than c.
    squared = difference.square()
    return 2.0 * c * squared / ((squared + c.square()).sqrt() + c)


def _smooth_l1(difference: Tensor, c: Tensor) -> Tensor:
    squared = difference.square()
    return 2.0 * squared / ((squared + c.square()).sqrt() + c)


LOSSES: dict[str, ErrorOf] = {
    "mse": _squared,
    "mae": _absolute,
    "huber": _pseudo_huber,
    "smooth_l1": _smooth_l1,
}


def per_sample_loss(
    output: Tensor,
    target: Tensor,
    *,
    loss: str = "mse",
    c: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Return the loss of each sample ``(B,)`` in float32.

    Args:
        output: Network output ``(B, C, h, w)``, any float dtype.
        target: What it should be, same shape.
        loss: A key of ``LOSSES``.
        c: Width of huber's and smooth_l1's quadratic part, ``(B,)``.
        mask: Weights of latent pixels ``(B, 1, h, w)`` >= 0; the loss is the weighted mean, so that
            a small mask does not shrink the gradient.

    Raises:
        ValueError: If shapes differ; broadcasting would train on the wrong target silently.
    """
    if output.shape != target.shape:
        raise ValueError(f"output {tuple(output.shape)} and target {tuple(target.shape)} differ")
    difference = output.float() - target.float()
    if c is None:
        c = difference.new_ones(len(difference))
    error = LOSSES[loss](difference, c.to(difference).view(-1, 1, 1, 1))
    if mask is None:
        return error.flatten(1).mean(1)
    mask = mask.to(error).expand_as(error)
    weight = mask.flatten(1).sum(1).clamp_min(torch.finfo(torch.float32).tiny)
    return (error * mask).flatten(1).sum(1) / weight


def huber_width(sigma: Tensor, c: float, *, flow: bool) -> Tensor:
    """Return huber's c by noise level ``(B,)``: 1 without noise, ``c`` in pure noise.

    eps/v: ``(1 - c) / (1 + sigma)^2 + c``. flow: ``(1 - c) (1 - sigma)^2 + c``, the same curve with
    the noise-to-signal ratio ``sigma / (1 - sigma)``, without its pole at 1.

    Source:
        Khrapov et al. 2024, arXiv:2403.16728 (scheduled pseudo-Huber).
    """
    falloff = (1.0 - sigma).square() if flow else (1.0 + sigma).pow(-2)
    return (1.0 - c) * falloff + c


def signal_to_noise(sigma: Tensor, *, flow: bool) -> Tensor:
    """Return the SNR of each level ``(B,)``: ``1 / sigma^2``; flow: ``((1 - sigma) / sigma)^2``."""
    return ((1.0 - sigma) / sigma).square() if flow else sigma.pow(-2)


def min_snr_weight(snr: Tensor, gamma: float, *, v_prediction: bool) -> Tensor:
    """Return min-SNR-gamma weights ``(B,)``: ``min(snr, gamma) / snr`` (eps), ``/ (snr + 1)`` (v).

    Source:
        Hang et al. 2023, arXiv:2303.09556, section 3.4.
    """
    return snr.clamp_max(gamma) / (snr + 1.0 if v_prediction else snr)


def debiased_weight(snr: Tensor, *, v_prediction: bool) -> Tensor:
    """Return debiased-estimation weights ``(B,)``: ``min(snr, 1000)^-1/2``; v: ``1 / (snr + 1)``.

    The mean weight is about 3 under uniform timesteps: it raises the effective learning rate.

    Source:
        Yu et al. 2024, arXiv:2310.08442; the v form is the one sd-scripts trains with.
    """
    if v_prediction:
        return 1.0 / (snr + 1.0)
    return snr.clamp_max(1000.0).rsqrt()
