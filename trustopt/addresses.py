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

    def on(self, device: torch.device) -> tuple[int, ...] | None:
        """Return all addresses; None if a tensor is not on a device of this type, or has none."""
        found: list[int] = []
        for table in self._tables:
            for tensor in table.values():
                if tensor is None:
                    continue
                if tensor.device.type != device.type:
                    return None
                try:
                    found.append(tensor.data_ptr())
                except RuntimeError:  # a quantised tensor is made of several
                    return None
        return tuple(found)
