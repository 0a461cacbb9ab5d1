"""AutoTrustGO as its document describes it, on chunks; the formula is this project's own.

:class:`~.autotrustgo.AutoTrustGO` states the formula and why each term is there.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .chunks import Chunk, Slot
from .scratch import Scratch

MEMORY = 0.94  # of both averages: 17 steps, the published momentum's
STATISTICS_RATE = 0.08  # of the averages over tensors, as published
SPIKE = 3.0  # times its usual size at which a gradient is half trusted
PRIOR = 0.02  # weight of the gradient's own size in what is usual, against 1 for the past
HALF_STABLE = 0.5  # |mean| / mean size at which stability is one half
HALF_SURE = 0.25  # mean stability that costs a tensor 3/8 of its step
LEAST_RANK = 0.35  # of an element however small: thin lines must still be learned
CAUTION = 1.5  # strength of the brake by danger
STRIDE = 1.8  # makes up for the trust that ordinary gradients lack
BOLDNESS = 2.0  # e-foldings of the step over the whole range of trust
SMALLEST = 1e-20  # keeps 0 / 0 at 0 without a branch; far below any gradient in use

SLOTS = {
    "momentum": Slot("element"),
    "magnitude": Slot("element"),
    "mean_magnitude": Slot("tensor"),
    "level": Slot("tensor"),
    "evidence": Slot("tensor"),
}
STATISTICS = ("mask_ema", "flip_ema", "threshold")
REPORT = ("mask", "flip", "danger", "lr_effective", "confidence", "confidence_stability")


def initial_statistics(trust: float) -> tuple[float, ...]:
    """Return what the statistics start from; ``threshold`` follows the mask in each step."""
    return 0.0, 0.0, 0.5 * (0.60 - 0.25 * trust)


@dataclass(frozen=True)
class Controls:
    """One group's settings and the statistics of the step before, ready for the update.

    Attributes:
        stride: Step size before any trust is taken from it.
        caution: Strength of the brake by danger.
        eps: Added to the magnitude, as a share of its mean over the tensor.
        most_danger: What danger would be without any trust in the size; 0-dim like all below.
        threshold: Magnitude, relative to the tensor's mean, at which rank is halfway.
        half: ``HALF_STABLE`` squared.
        one: 1.
    """

    stride: float
    caution: float
    eps: float
    most_danger: Tensor
    threshold: Tensor
    half: Tensor
    one: Tensor


def controls(
    statistics: Tensor, dtype: torch.dtype, *, lr: float, trust: float, eps: float
) -> Controls:
    """Derive a group's controls; ``dtype`` is what the update runs in."""
    mask_ema, flip_ema, threshold = statistics.unbind()
    threshold.copy_((0.60 - 0.25 * trust) * (0.5 + mask_ema))
    most_danger = (0.6 + 0.4 * flip_ema).to(dtype)
    return Controls(
        stride=lr * STRIDE * math.exp(BOLDNESS * (trust - 0.4)),
        caution=CAUTION * (1.0 - trust),
        eps=max(eps, 1e-12),  # with none, an element without any gradient would be 0 / 0
        most_danger=most_danger,
        threshold=threshold.to(dtype),
        half=torch.full_like(most_danger, HALF_STABLE**2),
        one=torch.ones_like(most_danger),
    )


def update_chunk(chunk: Chunk, scratch: Scratch, now: Controls) -> tuple[Tensor, Tensor]:
    """Update one chunk's parameters and state in place.

    Returns:
        The columns of ``REPORT``, ``(K, 6)``, and the L2 norm of each tensor's change, ``(K, 1)``.
    """
    grad = chunk.gather(scratch)
    size = torch.abs(grad, out=scratch.take("weight", chunk))
    mean_size = chunk.total(size.sum(1, keepdim=True)) / chunk.numels
    trusted = _trust_in_size(chunk, mean_size, now)
    mean_magnitude = chunk["mean_magnitude"].mul_(MEMORY).addcmul_(trusted, mean_size)
    of_row = chunk.spread(torch.cat([trusted, mean_magnitude + SMALLEST], dim=1))
    trusted_row, mean_row = of_row.split(1, dim=1)

    # m = 0.94 m + trusted g;  a = 0.94 a + trusted |g|
    momentum, magnitude = chunk["momentum"], chunk["magnitude"]
    torch.add(grad.mul_(trusted_row), momentum, alpha=MEMORY, out=momentum)
    torch.add(size.mul_(trusted_row), magnitude, alpha=MEMORY, out=magnitude)

    # u = m / a, times stability = u^2 / (u^2 + h^2) = 1 - h^2 / (u^2 + h^2)
    weight = torch.add(magnitude, mean_row, alpha=now.eps, out=size)
    update = torch.div(momentum, weight, out=grad)
    unstable = scratch.take("unstable", chunk)
    torch.addcmul(now.half, update, update, out=unstable).reciprocal_()
    update.addcmul_(update, unstable, value=-(HALF_STABLE**2))
    instability = chunk.without_padding(unstable).sum(1)

    # times rank / f = 1 + (1 - f) / f * a / (a + threshold mean(a)), f being the least rank
    weight.div_(torch.add(weight, mean_row * now.threshold, out=unstable))
    update.addcmul_(update, weight, value=(1.0 - LEAST_RANK) / LEAST_RANK)

    square = torch.linalg.vector_norm(update, dim=1).square_()
    sums = chunk.total(torch.stack([instability, weight.sum(1), square], dim=1))
    instability, rank, _ = (sums / chunk.numels).split(1, dim=1)
    stability = 1.0 - HALF_STABLE**2 * instability
    flip = 0.5 - 0.5 * (1.0 + HALF_STABLE**2) * stability
    rank = LEAST_RANK + (1.0 - LEAST_RANK) * rank

    danger = torch.sub(now.most_danger, trusted, alpha=0.6)
    sure = stability / (stability + HALF_SURE)
    lr_effective = sure * ((1.0 + HALF_SURE) * now.stride) / (1.0 + now.caution * danger)
    scale = LEAST_RANK * lr_effective
    update.mul_(chunk.spread(scale))
    chunk.subtract(scratch)
    report = torch.cat([rank, flip, danger, lr_effective, rank * stability, stability], dim=1)
    return report, scale * sums[:, 2:].sqrt()


def advance(statistics: Tensor, means: Tensor) -> None:
    """Move the statistics on, in place.

    Args:
        statistics: One number for each name in ``STATISTICS``.
        means: The averages of the report's columns over all tensors. One that is not finite
            leaves its statistic as it is: one bad tensor must not poison all.
    """
    emas = statistics[:2]
    new = emas.lerp(means[:2].to(emas), STATISTICS_RATE)
    emas.copy_(torch.where(new.isfinite(), new, emas))


def _trust_in_size(chunk: Chunk, mean_size: Tensor, now: Controls) -> Tensor:
    """How far each tensor's gradient is of a usual size, in (0, 1]; learns what is usual.

    ``level`` averages the sizes seen, cut where they leap, and ``evidence`` averages 1 over the
    steps that had a gradient: their ratio is an average without a start-up bias, and needs no step
    count. The gradient's own size enters it with a small weight: the very first one is usual.
    """
    level, evidence = chunk["level"], chunk["evidence"]
    usual = torch.add(level, mean_size, alpha=PRIOR) / (evidence + PRIOR)
    times_usual = mean_size / (usual + SMALLEST)
    trusted = torch.addcmul(now.one, times_usual, times_usual, value=SPIKE**-2).reciprocal_()
    level.lerp_(mean_size * trusted.sqrt(), 1.0 - MEMORY)
    evidence.lerp_(mean_size / (mean_size + SMALLEST), 1.0 - MEMORY)
    return trusted
