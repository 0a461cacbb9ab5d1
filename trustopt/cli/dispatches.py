"""Counts what is sent to the device, and how often its answer is waited for."""

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

READS = {"_local_scalar_dense", "item", "nonzero", "equal", "is_nonzero"}
"""Operations that wait until the device has answered."""

FREE = {"view", "as_strided", "split", "split_with_sizes", "unbind", "detach", "expand", "alias"}
"""Operations that only look at a tensor another way: nothing is launched."""


class Dispatches(TorchDispatchMode):
    """While active, counts the operations of this thread."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        """Operations that reach the device; views are none."""
        self.reads = 0
        """Those of them that wait for it."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and count it."""
        name = func.overloadpacket.__name__
        self.count += name not in FREE
        self.reads += name in READS
        return func(*args, **(kwargs or {}))
