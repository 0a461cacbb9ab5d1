"""The validation loss: held-out pictures at fixed noise levels with the same noise every time."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..data import Batch
from .loop import Run, conditioning_of

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Places in the schedule each held-out picture is tried at: even tenths, both ends left out."""


@dataclass(frozen=True)
class Validation:
    """Held-out batches and the seed of their noise.

    Its draws come from a generator of its own, so that a run with and without validation trains
    the same weights.
    """

    batches: Sequence[Batch]
    seed: int

    @torch.no_grad()
    def loss(self, run: Run) -> float:
        """Return the mean unweighted loss over pictures and levels, inside the host's session."""
        generator = torch.Generator().manual_seed(self.seed)
        total, count = 0.0, 0
        for batch in self.batches:
            conditioning = conditioning_of(run, batch)
            for level in LEVELS:
                noise = torch.randn(batch.latents.shape, generator=generator)
                levels = torch.full((len(batch.latents),), level)
                draw = run.objective.noised_at(batch.latents, levels, noise)
                output = run.host.denoise(draw.noised, draw.sigma, conditioning)
                losses = run.objective.losses(output, draw, batch.masks)
                total += float(losses.sum())
                count += len(losses)
        return total / count
