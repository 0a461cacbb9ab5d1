"""AutoTrustGO's published arithmetic, tensor for tensor, on chunks.

Every constant is from szxex/AutoTrustGo@c82f70e0:optimizer/AutoTrustGO.py.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .chunks import Chunk, Slot
from .scratch import Scratch

MOMENTUM = 0.94
STATISTICS_RATE = 0.08

SLOTS = {"momentum": Slot("element"), "prev_sign": Slot("element", torch.int8)}
CONFIDENCE_SLOTS = {"consensus": Slot("element")}
STATISTICS = ("mask_ema", "flip_ema", "threshold")
REPORT = ("mask", "flip", "danger", "lr_effective")
CONFIDENCE_REPORT = ("confidence", "confidence_rank", "confidence_stability")


def initial_statistics(trust: float) -> tuple[float, ...]:
    """Return what the statistics start from, for a trust level in [0, 1]."""
    return 0.0, 0.0, 0.60 - 0.25 * trust


@dataclass(frozen=True)
class Controls:
    """One group's settings and the statistics of the step before, ready for the update.

    Attributes:
        trust: Trust level in [0, 1].
        eps: Added to the mean gradient size.
        lr_effective: Step size after the slow-down by flips; 0-dim like all below.
        flips: Running share of sign changes.
        threshold: Relative gradient size at which the mask is halfway.
        temperature: Softness of the mask.
        floor: Least value of the mask.
        track_confidence: Whether to keep the confidence signals, which act on nothing.
    """

    trust: float
    eps: float
    lr_effective: Tensor
    flips: Tensor
    threshold: Tensor
    temperature: Tensor
    floor: Tensor
    track_confidence: bool = False


def controls(
    statistics: Tensor,
    dtype: torch.dtype,
    *,
    lr: float,
    trust: float,
    eps: float,
    track_confidence: bool = False,
) -> Controls:
    """Derive a group's controls; ``dtype`` is what the update runs in."""
    mask, flips, threshold = statistics.unbind()
    slow_down = (1.0 - (0.15 + 0.15 * trust) * flips).clamp(0.6, 1.0)
    temperature, floor = 0.35 - 0.2 * mask, 0.30 - 0.22 * mask
    numbers = torch.stack([lr * slow_down, flips, threshold, temperature, floor])
    lr_effective, flips, threshold, temperature, floor = numbers.to(dtype).unbind()
    return Controls(
        trust, eps, lr_effective, flips, threshold, temperature, floor, track_confidence
    )


def update_chunk(chunk: Chunk, scratch: Scratch, now: Controls) -> tuple[Tensor, Tensor]:
    """Update one chunk's parameters and state in place.

    Returns:
        The columns of ``REPORT``, ``(K, 4)``, followed by those of ``CONFIDENCE_REPORT`` if they
        are tracked; and the L2 norm of each tensor's change, ``(K, 1)``.
    """
    grad = chunk.gather(scratch)
    flipped = _compare_signs(grad, chunk, scratch)
    relative = torch.abs(grad, out=scratch.take("mask", chunk))
    mean_size = chunk.total(relative.sum(1, keepdim=True)) / chunk.numels + now.eps
    tracked = _confidence(grad, relative, mean_size, chunk, now) if now.track_confidence else []

    # mask = floor + (1 - floor) * sigmoid((|g| / mean|g| - threshold) / temperature)
    mask = relative.mul_(chunk.spread(1.0 / (mean_size * now.temperature)))
    mask.sub_(now.threshold / now.temperature).sigmoid_()
    mask.mul_(1.0 - now.floor).add_(now.floor)

    # m = 0.94 m + g;  d = (g + 0.94 m) * mask
    momentum = chunk["momentum"]
    torch.add(grad, momentum, alpha=MOMENTUM, out=momentum)
    update = torch.add(grad, momentum, alpha=MOMENTUM, out=grad).mul_(mask)

    masked = chunk.without_padding(mask).sum(1)
    square = torch.linalg.vector_norm(update, dim=1).square_()
    sums = chunk.total(torch.stack([masked, flipped, square], dim=1))
    shares = sums[:, :2] / chunk.numels
    norm = sums[:, 2:].sqrt()
    danger = 0.6 * norm / (norm + 1.0) + 0.4 * now.flips
    brake = 0.4 * now.trust * norm * danger * (1.0 + shares[:, :1])
    scale = now.lr_effective / (1.0 + brake)
    update.mul_(chunk.spread(scale))
    chunk.subtract(scratch)
    return torch.cat(
        [shares, danger, now.lr_effective.expand_as(danger), *tracked], 1
    ), scale * norm


def advance(statistics: Tensor, means: Tensor) -> None:
    """Move the statistics on, in place.

    Args:
        statistics: One number for each name in ``STATISTICS``.
        means: The averages of the report's columns over all tensors. One that is not finite
            leaves its statistic as it is: one bad tensor must not poison all.
    """
    emas, threshold = statistics[:2], statistics[2]
    new = emas.lerp(means[:2].to(emas), STATISTICS_RATE)
    emas.copy_(torch.where(new.isfinite(), new, emas))
    mask_ema = emas[0]
    rise = (mask_ema > 0.35).to(threshold) - (mask_ema < 0.10).to(threshold)
    threshold.mul_(1.0 + 0.005 * rise).clamp_(0.3, 0.7)


def _compare_signs(grad: Tensor, chunk: Chunk, scratch: Scratch) -> Tensor:
    """Count the entries of each row, ``(R,)``, whose sign changed; remember the new signs."""
    previous, flipped = chunk["prev_sign"], scratch.take("mask", chunk)
    sign = torch.sign(grad, out=flipped).to(torch.int8)
    # As bytes, because summing booleans is ten times slower.
    flipped.copy_(torch.ne(sign, previous).view(torch.uint8))
    previous.copy_(sign)
    return flipped.sum(1)


def _confidence(
    grad: Tensor, size: Tensor, mean_size: Tensor, chunk: Chunk, now: Controls
) -> list[Tensor]:
    """The published confidence: computed, remembered, and read by nothing but the recorder."""
    limit = int(2 + round(2 * now.trust))
    rank = size / chunk.spread(mean_size)
    rank = (rank / (rank + 1.0)).clamp_max_(0.85)
    consensus = chunk["consensus"]
    consensus.addcmul_(grad.sign(), rank).clamp_(-limit, limit)
    stability = (consensus.abs() / limit).clamp_max_(1.0)
    confidence = rank * (0.6 + 0.4 * stability) * (1.0 - 0.3 * now.flips)
    columns = [confidence, rank, stability, (confidence > 0.6).to(chunk.dtype)]
    sums = chunk.total(torch.stack([column.sum(1) for column in columns], dim=1))
    means, high = (sums / chunk.numels).split([3, 1], dim=1)
    consensus.mul_(1.0 - chunk.spread(0.02 * now.flips * high))
    return [means]
