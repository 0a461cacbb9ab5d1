"""The validation loss: held-out pictures at fixed noise levels with the same noise every time."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..data import Batch
from .backward import conditioning_of
from .loop import Run
from .lora_file import saved_weights

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

    def loss(self, run: Run) -> float:
        """Return the mean unweighted loss over pictures and levels, of the weights that are saved.

        Call it inside the host's session, and in all processes: they share the work.
        """
        with run.ranks.together(), saved_weights(run):
            sums = torch.tensor(self._sums(run), dtype=torch.float64)
        run.ranks.add_up([], sums)
        return sum(sums.tolist()) / (len(LEVELS) * sum(len(b.latents) for b in self.batches))

    @torch.no_grad()
    def _sums(self, run: Run) -> list[float]:
        """Return the summed losses of each batch at each level, 0 where it is another's turn."""
        generator = torch.Generator().manual_seed(self.seed)
        sums: list[float] = []
        for batch in self.batches:
            conditioning = conditioning_of(run, batch)
            for level in LEVELS:
                noise = torch.randn(batch.latents.shape, generator=generator)
                if not run.ranks.takes(len(sums)):
                    sums.append(0.0)
                    continue
                levels = torch.full((len(batch.latents),), level)
                draw = run.objective.noised_at(batch.latents, levels, noise)
                output = run.host.denoise(draw.noised, draw.sigma, conditioning)
                sums.append(float(run.objective.losses(output, draw, batch.masks).sum()))
        return sums
