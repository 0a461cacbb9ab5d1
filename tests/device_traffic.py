"""Finds what a CUDA graph cannot record, without a GPU: tensors that go between devices.

The network is on torch's ``meta`` device, whose tensors have shapes and no numbers. As on a GPU,
whatever asks for a number raises there; a copy from or to main memory is noted here.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class DeviceTraffic(TorchDispatchMode):
    """Notes every operation between tensors of two devices inside its block.

    A single number from main memory becomes an argument of a kernel; copied it is traffic.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        tensors = [x for x in tree_leaves((args, kwargs, made)) if isinstance(x, Tensor)]
        copies = "copy" in str(func)
        if len({x.device.type for x in tensors if copies or x.ndim > 0}) > 1:
            self.found.append(str(func))
        return made


def test_traffic_is_noticed() -> None:
    here, there = torch.zeros(3), torch.zeros(3, device="meta")
    with DeviceTraffic() as traffic:
        _ = there + 1.0 + torch.tensor(2.0)
    assert not traffic.found
    for copied in (here, torch.tensor(2.0)):
        with DeviceTraffic() as traffic:
            _ = copied.to("meta") + there
        assert traffic.found
