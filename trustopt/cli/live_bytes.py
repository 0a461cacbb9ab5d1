"""Counts the memory that tensors take, exactly and on any device."""

import weakref
from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class LiveBytes(TorchDispatchMode):
    """While active, adds up the storages that operations make, until they are freed.

    Backward is counted, too. What a kernel takes for itself alone is not.

    Args:
        known: Tensors that were there before, and are not counted.
    """

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()
        self.live = 0
        """Bytes now."""
        self.peak = 0
        """The most bytes so far."""
        self.kernels = 0
        """Operations so far that computed something: views and allocations are none."""
        self._seen: dict[int, Any] = {t.untyped_storage()._cdata: None for t in known}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and count what it made."""
        out = func(*args, **(kwargs or {}))
        outputs = out if isinstance(out, tuple | list) else (out,)
        made = [self._add(tensor) for tensor in outputs if isinstance(tensor, Tensor)]
        if "empty" not in func._schema.name:
            self.kernels += any(made) or func._schema.is_mutable
        return out

    def _add(self, tensor: Tensor) -> bool:
        """Count a tensor's storage; return whether it is new."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen or tensor.is_meta:
            return False
        self._seen[key] = weakref.finalize(storage, self._freed, key, size)
        self.live += size
        self.peak = max(self.peak, self.live)
        return True

    def _freed(self, key: int, size: int) -> None:
        if self._seen.pop(key, None) is not None:
            self.live -= size
