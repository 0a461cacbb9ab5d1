"""Loss scaling: keeps the gradients of a model that runs in fp16 above the smallest fp16 number."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

START = 2.0**16
LARGEST = 2.0**24
BACKOFF = 4.0
GROWTH_INTERVAL = 2000
"""Steps without an overflow after which the scale is doubled."""


class LossScale:
    """A power of two that the loss is multiplied by, and the gradients are divided by again.

    The mean over a picture of 1024 px gives each of its 65,536 latent numbers a gradient near
    1e-5: fp16 holds such numbers with a few digits, and a thousandth of them not at all. Multiplied
    by a power of two they keep all their digits. A gradient that overflows makes the scale a
    quarter, and the step is taken again; long without one doubles it. bfloat16 and float32 reach
    as low as anybody needs.

    Args:
        dtype: What the base model computes in.

    Source:
        Micikevicius et al. 2018, "Mixed Precision Training", arXiv:1710.03740, section 3.2; start
        and growth are those of torch.amp.GradScaler.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.active = dtype == torch.float16
        self.value = START if self.active else 1.0
        self.good_steps = 0
        """Steps since the scale was last changed."""

    @torch.no_grad()
    def unscale(self, parameters: Iterable[Tensor]) -> None:
        """Divide the gradients by the scale, in place."""
        if self.active:
            gradients = [p.grad for p in parameters if p.grad is not None]
            torch._foreach_mul_(gradients, 1.0 / self.value)

    def lower(self) -> bool:
        """Take a quarter after an overflow; return False if the loss is not scaled any more."""
        if self.value <= 1.0:
            return False
        self.value, self.good_steps = max(1.0, self.value / BACKOFF), 0
        return True

    def note_good_step(self) -> None:
        """Count a step without an overflow; after many the scale is doubled."""
        if not self.active:
            return
        self.good_steps += 1
        if self.good_steps >= GROWTH_INTERVAL:
            self.value, self.good_steps = min(2.0 * self.value, LARGEST), 0

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {"value": self.value, "good_steps": self.good_steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a ``state_dict``; without need of a scale there is nothing to do."""
        if self.active:
            self.value, self.good_steps = float(state["value"]), int(state["good_steps"])
