"""AutoTrustGO as its document describes it, on chunks; the formula is this project's own.

:class:`~.autotrustgo.AutoTrustGO` states the formula and why each term is there.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .adam import uncorrected_adam
from .chunks import Chunk, Slot
from .scratch import Scratch

MEMORY = 0.94  # of all averages: 17 steps, the published momentum's
STATISTICS_RATE = 0.08  # of the averages over tensors, as published
SPIKE = 3.0  # times its usual size at which a gradient is half trusted
PRIOR = 0.02  # weight of the gradient's own size in what is usual, against 1 for the past
HALF_STABLE = 0.3  # |mean| / rms of a gradient at which stability is one half
HALF_SURE = 0.1  # mean stability at which a tensor's step is about one half
LEAST_RANK = 0.375  # of an element however small: thin lines must still be learned
CAUTION = 1.5  # strength of the brake by danger
STRIDE = 1.8  # makes up for the trust that ordinary gradients lack
BOLDNESS = 2.0  # e-foldings of the step over the whole range of trust
SMALLEST = 1e-20  # keeps 0 / 0 at 0 without a branch; far below any gradient in use

SLOTS = {
    "exp_avg": Slot("element"),
    "exp_avg_sq": Slot("element"),
    "mean_sq": Slot("tensor"),
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
        eps: Added to the rms of a gradient, in units of its tensor's usual size.
        most_danger: What danger would be without any trust in the size; 0-dim like all below.
        threshold: Mean square, relative to the tensor's, at which rank is halfway.
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
        eps=max(eps, SMALLEST),  # with none, an element without any gradient would be 0 / 0
        most_danger=most_danger,
        threshold=threshold.square().to(dtype),
        half=torch.full_like(most_danger, HALF_STABLE**2),
        one=torch.ones_like(most_danger),
    )


def update_chunk(chunk: Chunk, scratch: Scratch, now: Controls) -> tuple[Tensor, Tensor]:
    """Update one chunk's parameters and state in place.

    Returns:
        The columns of ``REPORT``, ``(K, 6)``, and the L2 norm of each tensor's change, ``(K, 1)``.
    """
    grad = chunk.gather(scratch, "gradient")
    trusted, factor, mean_sq = _weigh(grad, chunk, now)
    factor_row, rank_row = chunk.spread(
        torch.cat([factor, now.threshold * mean_sq + SMALLEST], dim=1)
    ).split(1, dim=1)

    # g' = factor g;  m = 0.94 m + 0.06 g';  v = 0.94 v + 0.06 g'^2;  u = m / sqrt(v)
    update = scratch.take("update", chunk).zero_()
    uncorrected_adam(
        [update],
        [grad.mul_(factor_row)],
        [chunk["exp_avg"]],
        [chunk["exp_avg_sq"]],
        lr=-1.0,
        beta1=MEMORY,
        beta2=MEMORY,
        eps=now.eps,
    )

    # times stability = u^2 / (u^2 + h^2) = 1 - h^2 / (u^2 + h^2)
    unstable = torch.addcmul(now.half, update, update, out=grad).reciprocal_()
    instability = chunk.without_padding(unstable).sum(1)
    update.addcmul_(update, unstable, value=-(HALF_STABLE**2))

    # times rank / f = 1 + (1 - f) / f * v / (v + threshold^2 mean(v)), f being the least rank
    weight = torch.add(chunk["exp_avg_sq"], rank_row, out=grad)
    torch.div(chunk["exp_avg_sq"], weight, out=weight)
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


def _weigh(grad: Tensor, chunk: Chunk, now: Controls) -> tuple[Tensor, Tensor, Tensor]:
    """Learn what size of gradient is usual for each tensor, and weigh this one by it.

    ``level`` averages the sizes (rms) seen, cut where they leap, and ``evidence`` averages 1 over
    the steps that had a gradient: their ratio is an average without a start-up bias, and needs no
    step count. The gradient's own size enters it with a small weight: the very first one is usual.

    Returns:
        ``(K, 1)`` each: the trust in the size, in (0, 1]; what to multiply the gradient by, the
        trust over the usual size; the running mean square of the gradient so weighed.
    """
    squares = chunk.total(torch.linalg.vector_norm(grad, dim=1, keepdim=True).square_())
    size = (squares / chunk.numels).sqrt_()
    level, evidence = chunk["level"], chunk["evidence"]
    usual = torch.add(level, size, alpha=PRIOR) / (evidence + PRIOR) + SMALLEST
    times_usual = size / usual
    trusted = torch.addcmul(now.one, times_usual, times_usual, value=SPIKE**-2).reciprocal_()
    level.lerp_(size * trusted.sqrt(), 1.0 - MEMORY)
    evidence.lerp_(size / (size + SMALLEST), 1.0 - MEMORY)
    mean_sq = chunk["mean_sq"].lerp_((trusted * times_usual).square_(), 1.0 - MEMORY)
    return trusted, trusted / usual, mean_sq
