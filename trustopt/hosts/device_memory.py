"""What is free on a device, and what modules hold there."""

from collections.abc import Iterable

import torch
from torch import nn


def free_bytes(device: torch.device) -> int | None:
    """Return the bytes free on a device; None where torch and psutil cannot tell.

    What torch's own allocator holds without using it counts as free.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + cached
    if device.type == "cpu":
        try:
            import psutil
        except ImportError:
            return None
        return psutil.virtual_memory().available
    return None


def weight_bytes(modules: Iterable[nn.Module], on: torch.device | None = None) -> int:
    """Return what the modules' tensors take, of those on a device's kind if ``on`` is given."""
    return sum(
        tensor.numel() * tensor.element_size()
        for module in modules
        for tensor in (*module.parameters(), *module.buffers())
        if on is None or tensor.device.type == on.type
    )
