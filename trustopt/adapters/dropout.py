"""Dropout whose masks come from a passed generator and survive gradient checkpointing.

A checkpointed block runs forward twice. ``nn.Dropout`` draws from the global generator, so here
each mask is drawn from the micro-batch's seed and the layer's number instead: the second run
sees the same mask, and the global random state is left alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class MaskSeed:
    """Seed shared by all layers of an adapter set; None means no dropout right now."""

    value: int | None = None


@dataclass(frozen=True)
class DropoutRates:
    """Probabilities in [0, 1) of dropping an input, a rank component, a whole layer."""

    inputs: float = 0.0
    ranks: float = 0.0
    modules: float = 0.0

    def any(self) -> bool:
        """Return whether anything is ever dropped."""
        return max(self.inputs, self.ranks, self.modules) > 0.0


def put_dropout(
    layer: Any, rates: DropoutRates, seed: MaskSeed, *, number: int, channel_dim: int
) -> None:
    """Put dropout into a layer with ``lora_A`` and ``lora_B``, or into a LoHa or LoKr layer.

    Args:
        layer: A PEFT LoRA, LoHa or LoKr layer, or a ``DoraLayer``.
        rates: What is dropped how often. Kept values are scaled by ``1 / (1 - rate)``, except
            that a dropped module is left out without rescaling the others, as in sd-scripts;
            DoRA's magnitude stays.
        seed: The set's seed; while its value is None nothing is dropped.
        number: The layer's number, so that layers get different masks.
        channel_dim: Axis of the features in the activations: -1, or 1 for a convolution.
    """
    masks = _Masks(rates, seed, number, channel_dim)
    if hasattr(layer, "lora_A"):
        layer.lora_dropout["default"] = masks
        layer.lora_A["default"].register_forward_hook(lambda _m, _a, out: masks.drop_ranks(out))
        layer.lora_B["default"].register_forward_hook(lambda _m, _a, out: masks.drop_module(out))
    else:
        layer._get_delta_activations = _masked(layer._get_delta_activations, masks)


def _masked(delta_activations: Callable[..., Tensor], masks: "_Masks") -> Callable[..., Tensor]:
    """Wrap the delta of LoHa and LoKr, whose rank dropout drops output rows (LyCORIS)."""

    def masked(adapter: str, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        change = delta_activations(adapter, masks(x), *args, **kwargs)
        return masks.drop_module(masks.drop_ranks(change))

    return masked


class _Masks(nn.Module):
    def __init__(self, rates: DropoutRates, seed: MaskSeed, number: int, channel_dim: int) -> None:
        super().__init__()
        self.rates, self.seed = rates, seed
        self.number, self.channel_dim = number, channel_dim

    def forward(self, x: Tensor) -> Tensor:
        """Drop single inputs."""
        if self.seed.value is None or self.rates.inputs == 0.0:
            return x
        # Drawn on the activation's device: a mask of this size is too slow to draw on the CPU.
        keep = self._uniform(x.shape, 0, x.device) >= self.rates.inputs
        return x * keep / (1.0 - self.rates.inputs)

    def drop_ranks(self, hidden: Tensor) -> Tensor:
        """Drop components of each sample: channels ``(B, …, r)``, or ``(B, r, H, W)``."""
        if self.seed.value is None or self.rates.ranks == 0.0:
            return hidden
        shape = [1] * hidden.ndim
        shape[0], shape[self.channel_dim] = hidden.shape[0], hidden.shape[self.channel_dim]
        keep = (self._uniform(shape, 1) >= self.rates.ranks).to(hidden.device)
        return hidden * keep / (1.0 - self.rates.ranks)

    def drop_module(self, change: Tensor) -> Tensor:
        """Drop the whole change."""
        if self.seed.value is None or self.rates.modules == 0.0:
            return change
        keep = bool(self._uniform((), 2) >= self.rates.modules)
        return change if keep else change * 0.0

    def _uniform(self, shape: Any, kind: int, device: torch.device | str = "cpu") -> Tensor:
        assert self.seed.value is not None
        generator = torch.Generator(device)
        generator.manual_seed((self.seed.value + 3 * self.number + kind) % 2**63)
        return torch.rand(shape, generator=generator, device=device)
