"""A training's budget of processor time, and the files it leaves on the way."""

import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

WARM_UP = 0.02
"""Share of the budget in which the learning rate rises."""


class Clock:
    """Says how much of a budget is used; a run that went on from a file begins later.

    Processor time, so that a training beside other work learns as much as one alone.

    Args:
        minutes: The whole budget.
        used: Minutes of it that are used already.
        every: Minutes between two checkpoints.
    """

    def __init__(self, minutes: float, *, used: float = 0.0, every: float = 4.0) -> None:
        self._seconds = 60.0 * minutes
        self._start = time.process_time() - 60.0 * used
        self._every = 60.0 * every
        self._next = 60.0 * used + self._every

    @property
    def share(self) -> float:
        """Return what share of the budget is used, 0 to 1."""
        return min((time.process_time() - self._start) / self._seconds, 1.0)

    @property
    def minutes(self) -> float:
        """Return the minutes used."""
        return self.share * self._seconds / 60.0

    def steps(self) -> Iterator[int]:
        """Yield step numbers from 0 until the time is over."""
        step = 0
        while self.share < 1.0:
            yield step
            step += 1

    def is_due(self) -> bool:
        """Return whether it is time for a checkpoint, once each time."""
        if time.process_time() - self._start < self._next:
            return False
        self._next += self._every
        return True

    def lr(self, highest: float) -> float:
        """Return the learning rate: up in a short warm-up, then down as a cosine to a hundredth."""
        share = self.share
        if share < WARM_UP:
            return highest * max(share / WARM_UP, 0.02)
        fall = (share - WARM_UP) / (1.0 - WARM_UP)
        return highest * (0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * fall)))


def write_tensors(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Write a safetensors file so that readers see the old one or the new one."""
    half = file.with_suffix(".part")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, half)
    half.replace(file)
