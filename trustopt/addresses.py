"""Where a network's weights are in memory: what a recording of its kernels depends on."""

import torch
from torch import nn


class WeightAddresses:
    """Looks up the addresses of a module's parameters and buffers, cheap enough for every step.

    Args:
        module: Its submodules must stay the same; their tensors may be replaced and moved.
    """

    def __init__(self, module: nn.Module) -> None:
        # Walking the module tree takes a hundred times as long as asking its tensors.
        tables = [(m._parameters, m._buffers) for m in module.modules()]
        self._tables = [table for pair in tables for table in pair if table]
        self._known: tuple[tuple[int, ...], torch.device] | None = None
        """Addresses last found to be on a device: no other tensor can be at one of them."""

    def on(self, device: torch.device) -> tuple[int, ...] | None:
        """Return all addresses; None if a tensor is not on a device of this type, or has none."""
        try:
            found = tuple([x.data_ptr() for t in self._tables for x in t.values() if x is not None])
        except RuntimeError:  # a kind of tensor that is in no one place
            return None
        if (found, device) != self._known:
            tensors = (x for t in self._tables for x in t.values() if x is not None)
            if any(x.device.type != device.type for x in tensors):
                return None
            self._known = (found, device)
        return found
