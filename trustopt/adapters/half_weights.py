"""Half-precision copies of LoRA matrices, made and taken back all at once.

A layer that casts its own two matrices, and their gradients back, spends four small kernels on
it: a quarter of all that a training step of SDXL launches, and small pictures leave a GPU waiting
for launches. So one call copies all masters before a micro-batch, and one copies all gradients
back behind it. No number changes: the same values are rounded the same way.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from .fast_lora import is_fast


class HalfWeights:
    """The copies of a set of layers.

    Args:
        layers: Adapter layers; those that cannot run in one operation are left alone.
    """

    def __init__(self, layers: Iterable[Any]) -> None:
        self._layers = [layer for layer in layers if is_fast(layer)]
        self._copies: list[Tensor] = []

    @contextmanager
    def held(self, dtype: torch.dtype) -> Iterator[None]:
        """Let the layers run on copies of ``dtype`` for one forward and backward.

        Gradients arrive at the masters, in float32, when the block ends without an error.
        """
        if dtype == torch.float32 or not self._layers:
            yield
            return
        masters = [
            factor["default"].weight
            for layer in self._layers
            for factor in (layer.lora_A, layer.lora_B)
        ]
        copies = self._filled(masters, dtype)
        for layer, down, up in zip(self._layers, copies[::2], copies[1::2], strict=True):
            layer.half_weights = (down, up)
        try:
            yield
            _add_gradients(masters, copies)
        finally:
            for copy in copies:
                copy.grad = None
            for layer in self._layers:
                del layer.half_weights

    @torch.no_grad()
    def _filled(self, masters: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
        """Return copies of what the masters are now; their memory is kept for the next time."""
        kept = self._copies
        if not kept or kept[0].dtype != dtype or kept[0].device != masters[0].device:
            self._copies = [torch.empty_like(m, dtype=dtype) for m in masters]
        torch._foreach_copy_(self._copies, list(masters))
        for copy, master in zip(self._copies, masters, strict=True):
            copy.requires_grad_(master.requires_grad)
        return self._copies


@torch.no_grad()
def _add_gradients(masters: Sequence[Tensor], copies: Sequence[Tensor]) -> None:
    reached = [(m, c.grad) for m, c in zip(masters, copies, strict=True) if c.grad is not None]
    if not reached:
        return
    added = [torch.empty_like(master) for master, _ in reached]
    torch._foreach_copy_(added, [grad for _, grad in reached])
    sums = [master.grad for master, _ in reached if master.grad is not None]
    if sums:
        behind = [
            a for a, (master, _) in zip(added, reached, strict=True) if master.grad is not None
        ]
        torch._foreach_add_(sums, behind)
    for master, gradient in zip((m for m, _ in reached), added, strict=True):
        if master.grad is None:
            master.grad = gradient
