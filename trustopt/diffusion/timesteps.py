"""How noise levels are drawn: a number in (0, 1) a sample, through an inverse distribution.

Every density is a map of one uniform draw, so stratified draws work for all of them.
Letters: B batch.
"""

import math

import torch
from torch import Tensor

EDGE = 1e-6
"""Draws stay this far from 0 and 1: at 0 ComfyUI's schedules return sigma 999999999.9."""

STRATA = 32
"""Draws in which every part of the density is visited once; 32 hold several steps of any batch."""


class StratifiedUniform:
    """Uniform draws which cover (0, 1) evenly over every ``STRATA`` consecutive samples.

    Each single draw is uniform; only their spread is better than chance, which lowers the variance
    of the mean loss and gradient over neighbouring steps.
    """

    def __init__(self, strata: int = STRATA) -> None:
        self.strata = strata
        self._pending = torch.empty(0, dtype=torch.int64)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Return ``count`` draws ``(count,)`` float32 in (0, 1)."""
        while len(self._pending) < count:
            cycle = torch.randperm(self.strata, generator=generator)
            self._pending = torch.cat([self._pending, cycle])
        stratum, self._pending = self._pending[:count], self._pending[count:]
        return ((stratum + torch.rand(count, generator=generator)) / self.strata).float()

    def state_dict(self) -> dict[str, Tensor]:
        """Return the strata not yet visited in this cycle."""
        return {"pending": self._pending.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue the cycle a ``state_dict`` was taken in."""
        self._pending = state["pending"].clone()


def uniform(count: int, generator: torch.Generator) -> Tensor:
    """Return ``count`` independent uniform draws, float32."""
    return torch.rand(count, generator=generator)


def sigmoid_normal(u: Tensor, *, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Map uniform draws to the logit-normal density: ``sigmoid(mean + std * z)``.

    Args:
        u: Uniform draws ``(B,)`` in (0, 1).
        mean: Mean of the underlying normal; above 0 favours noise.
        std: Its standard deviation, > 0.

    Returns:
        Draws ``(B,)`` in (0, 1).

    Source:
        Esser et al. 2024, "Scaling Rectified Flow Transformers", arXiv:2403.03206, section 3.1.
    """
    z = torch.special.ndtri(u.double().clamp(EDGE, 1.0 - EDGE))
    return torch.sigmoid(mean + std * z).float()


def shift_levels(t: Tensor, shift: float) -> Tensor:
    """Move noise levels towards noise: ``s t / (1 + (s - 1) t)``.

    Args:
        t: Levels ``(B,)`` in (0, 1).
        shift: Factor s, > 0; 1 changes nothing.

    Source:
        Esser et al. 2024, arXiv:2403.03206, equation 23.
    """
    return shift * t / (1.0 + (shift - 1.0) * t)


def flux_shift(image_tokens: int) -> float:
    """Return FLUX's shift factor for a picture size.

    Args:
        image_tokens: ``(H / 16) * (W / 16)`` for a picture of H x W pixels.

    Returns:
        ``exp(mu)`` with mu linear in the token count: 1.88 at 512 px, 3.16 at 1024 px.

    Source:
        FLUX.1's reference sampler: mu runs from 0.5 at 256 tokens to 1.15 at 4096.
    """
    slope = (1.15 - 0.5) / (4096 - 256)
    return math.exp(0.5 + slope * (image_tokens - 256))
