"""AutoTrustGO's published arithmetic, tensor for tensor, on chunks."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .chunks import Chunk, Scratch, Slot

MOMENTUM = 0.94
STATISTICS_RATE = 0.08  # szxex/AutoTrustGo@c82f70e0:optimizer/AutoTrustGO.py, like all below

SLOTS = {"momentum": Slot("element"), "prev_sign": Slot("element", torch.int8)}
CONSENSUS = {"consensus": Slot("element")}


def initial_statistics(trust: float) -> dict[str, float]:
    """Return what the statistics start from, for a trust level in [0, 1]."""
    return {"mask_ema": 0.0, "flip_ema": 0.0, "threshold": 0.60 - 0.25 * trust}


@dataclass(frozen=True)
class Controls:
    """One group's settings and the statistics of the step before, ready for the update.

    Attributes:
        lr_effective: Step size after the slow-down by flips, 0-dim.
        trust: Trust level in [0, 1].
        eps: Added to the mean gradient size.
        flips, threshold, temperature, floor: 0-dim tensors; ``temperature`` is the softness of
            the mask, ``floor`` its least value.
        track_confidence: Whether to keep the confidence signals, which act on nothing.
    """

    lr_effective: Tensor
    trust: float
    eps: float
    flips: Tensor
    threshold: Tensor
    temperature: Tensor
    floor: Tensor
    track_confidence: bool = False


def controls(
    statistics: dict[str, Tensor],
    dtype: torch.dtype,
    *,
    lr: float,
    trust: float,
    eps: float,
    track_confidence: bool = False,
) -> Controls:
    """Derive a group's controls; ``dtype`` is what the update runs in."""
    flips, mask = statistics["flip_ema"], statistics["mask_ema"]
    slow_down = (1.0 - (0.15 + 0.15 * trust) * flips.clamp(0.0, 1.0)).clamp(0.6, 1.0)
    return Controls(
        lr_effective=(lr * slow_down).to(dtype),
        trust=trust,
        eps=eps,
        flips=flips.to(dtype),
        threshold=statistics["threshold"].to(dtype),
        temperature=(0.15 + 0.2 * (1.0 - mask)).to(dtype),
        floor=(0.08 + 0.22 * (1.0 - mask)).to(dtype),
        track_confidence=track_confidence,
    )


def update_chunk(chunk: Chunk, scratch: Scratch, now: Controls) -> dict[str, Tensor]:
    """Update one chunk's parameters and state in place.

    Returns:
        One number for each tensor, ``(K, 1)``: ``mask``, ``flip``, ``danger``, ``step_norm``
        (L2 norm of the change), and the three confidences if they are tracked.
    """
    grad = chunk.gather(scratch)
    report = {"flip": _count_flips(grad, chunk, scratch)}

    relative = torch.abs(grad, out=scratch.take("mask", chunk))
    mean_size = chunk.total(relative.sum(1)) / chunk.numels + now.eps
    if now.track_confidence:
        report |= _confidence(grad, relative, mean_size, chunk, now)

    # mask = floor + (1 - floor) * sigmoid((|g| / mean|g| - threshold) / temperature)
    slope = chunk.spread(1.0 / (mean_size * now.temperature))
    mask = torch.addcmul(-now.threshold / now.temperature, relative, slope, out=relative)
    mask.sigmoid_()
    torch.addcmul(now.floor, mask, 1.0 - now.floor, out=mask)
    report["mask"] = chunk.total(chunk.without_padding(mask).sum(1)) / chunk.numels

    # m = 0.94 m + g;  d = (g + 0.94 m) * mask
    momentum = chunk["momentum"]
    torch.add(grad, momentum, alpha=MOMENTUM, out=momentum)
    update = torch.add(grad, momentum, alpha=MOMENTUM, out=grad).mul_(mask)

    norm = chunk.total(torch.linalg.vector_norm(update, dim=1).square_()).sqrt_()
    report["danger"] = 0.6 * norm / (norm + 1.0) + 0.4 * now.flips
    brake = report["danger"] * now.trust * (0.4 + 0.4 * report["mask"]) * norm
    scale = now.lr_effective / (1.0 + brake)
    report["step_norm"] = scale * norm
    update.mul_(chunk.spread(scale))
    chunk.subtract(scratch)
    return report


def advance(statistics: dict[str, Tensor], mask: Tensor, flip: Tensor) -> None:
    """Move the statistics on, in place, by the step's averages over tensors (0-dim).

    An average that is not finite leaves them as they are: one bad tensor must not poison all.
    """
    mask_ema, flip_ema = statistics["mask_ema"], statistics["flip_ema"]
    for ema, value in ((mask_ema, mask), (flip_ema, flip)):
        new = (1.0 - STATISTICS_RATE) * ema + STATISTICS_RATE * value
        ema.copy_(torch.where(new.isfinite(), new, ema))
    threshold = statistics["threshold"]
    factor = 1.0 - 0.005 * (mask_ema < 0.10).to(threshold) + 0.005 * (mask_ema > 0.35).to(threshold)
    threshold.mul_(factor).clamp_(0.3, 0.7)


def _count_flips(grad: Tensor, chunk: Chunk, scratch: Scratch) -> Tensor:
    """Share of each tensor's entries whose sign changed; remembers the new signs."""
    previous = chunk["prev_sign"]
    sign = torch.sign(grad, out=scratch.take("mask", chunk)).to(torch.int8)
    flipped = (sign != previous).sum(1, dtype=chunk.dtype)
    previous.copy_(sign)
    return chunk.total(flipped) / chunk.numels


def _confidence(
    grad: Tensor, size: Tensor, mean_size: Tensor, chunk: Chunk, now: Controls
) -> dict[str, Tensor]:
    """The published confidence: computed, remembered, and read by nothing but the recorder."""
    limit = int(2 + round(2 * now.trust))
    rank = size / chunk.spread(mean_size)
    rank = (rank / (rank + 1.0)).clamp_max_(0.85)
    consensus = chunk["consensus"]
    consensus.addcmul_(grad.sign(), rank).clamp_(-limit, limit)
    stability = (consensus.abs() / limit).clamp_max_(1.0)
    confidence = rank * (0.6 + 0.4 * stability) * (1.0 - 0.3 * now.flips)
    high = chunk.total((confidence > 0.6).sum(1, dtype=chunk.dtype)) / chunk.numels
    consensus.mul_(1.0 - chunk.spread(0.02 * high * now.flips))
    means = {
        "confidence": confidence,
        "confidence_rank": rank,
        "confidence_stability": stability,
    }
    return {name: chunk.total(value.sum(1)) / chunk.numels for name, value in means.items()}
