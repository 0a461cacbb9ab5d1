"""An exponential moving average of the adapter weights."""

from collections.abc import Iterable

import torch
from torch import Tensor


class ExponentialAverage:
    """Average of parameters over training: ``average += (1 - decay) * (parameter - average)``.

    The decay starts low and rises to ``decay``, so that the average does not remember the
    initial weights: at update n it is ``min(decay, (1 + n) / (10 + n))``.

    Args:
        parameters: What is averaged, any shapes; the average starts as a copy.
        decay: Final decay an update, in [0, 1).

    Source:
        Polyak & Juditsky 1992; the warm-up is the one of TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, parameters: Iterable[Tensor], decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.averages = [p.detach().clone() for p in parameters]

    @torch.no_grad()
    def restart(self, parameters: Iterable[Tensor]) -> None:
        """Forget the past and start from what the parameters are now."""
        self.updates = 0
        torch._foreach_copy_(self.averages, [p.detach() for p in parameters])

    @torch.no_grad()
    def update(self, parameters: Iterable[Tensor]) -> None:
        """Move the average towards the parameters; same order and shapes as at the start."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self.averages, [p.detach() for p in parameters], 1.0 - decay)

    @torch.no_grad()
    def swap(self, parameters: Iterable[Tensor]) -> None:
        """Exchange the average with the parameters in place; twice gives both back."""
        for average, parameter in zip(self.averages, parameters, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(kept)

    def state_dict(self) -> dict[str, object]:
        """Return the averages and the number of updates."""
        return {"updates": self.updates, "averages": list(self.averages)}

    def load_state_dict(self, state: dict) -> None:
        """Continue from a ``state_dict`` of the same parameters."""
        self.updates = state["updates"]
        for average, saved in zip(self.averages, state["averages"], strict=True):
            average.copy_(saved)
