"""One canonical layer over modules that split or reorder it, so that any adapter fits it.

FLUX's files hold query, key and value (and a single block's MLP) as one matrix; diffusers runs
them as separate layers. An adapter of the one matrix must see one layer: ``FusedLinear`` is that
layer, and ``Rows`` hands its output back to the places where diffusers expects the parts.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .conversion import swap_halves


class FusedLinear(nn.Module):
    """Linear layers of one input, as the single layer whose output rows they are.

    The parts stay what they are: no weight is copied or moved.
    """

    def __init__(self, parts: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.in_features = parts[0].in_features
        self.sizes = [part.out_features for part in parts]
        self.out_features = sum(self.sizes)

    @property
    def weight(self) -> Tensor:
        """The whole matrix ``(out, in)``, put together at every call."""
        return torch.cat([part.weight for part in self.parts])  # pyright: ignore

    @property
    def bias(self) -> Tensor:
        """The whole bias ``(out,)``, put together at every call."""
        return torch.cat([part.bias for part in self.parts])  # pyright: ignore

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., in)`` to ``(..., out)``."""
        return torch.cat([part(x) for part in self.parts], -1)

    def constant_forward(self, x: Tensor) -> Tensor:
        """Do the same outside autograd, for adapters that bring their own backward."""
        return self.forward(x)

    def input_gradient(self, grad: Tensor, x: Tensor) -> Tensor:
        """Return the gradient of ``x``: the sum over the parts."""
        first, *rest = zip(grad.split(self.sizes, -1), self.parts, strict=True)
        total = first[0] @ first[1].weight  # pyright: ignore
        rows = total.view(-1, total.shape[-1])
        for part_grad, part in rest:
            weight: Tensor = part.weight  # pyright: ignore
            rows.addmm_(part_grad.reshape(-1, part_grad.shape[-1]), weight)
        return total


class SharedForward:
    """Runs a layer once for the several modules that each need some of its rows.

    A caller gives the same input tensor to each of them in turn, in any order; the output is
    kept until all have theirs. A recomputation (checkpointing) brings a new tensor and so runs
    the layer again.
    """

    def __init__(self, layer: nn.Module, sizes: Sequence[int]) -> None:
        self.layer = layer
        self.sizes = list(sizes)
        self._input: Tensor | None = None
        self._waiting: dict[int, Tensor] = {}

    def rows(self, x: Tensor, index: int) -> Tensor:
        """Return part ``index`` of the layer's output for ``x``."""
        if self._input is not x or index not in self._waiting:
            self._input = x
            self._waiting = dict(enumerate(self.layer(x).split(self.sizes, -1)))
        rows = self._waiting.pop(index)
        if not self._waiting:
            self._input = None
        return rows


class Rows(nn.Module):
    """Stands where diffusers expects one part of a fused layer."""

    def __init__(self, shared: SharedForward, index: int) -> None:
        super().__init__()
        self.shared = shared
        self.index = index

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., in)`` to this part's rows of the layer's output."""
        return self.shared.rows(x, self.index)


class HalvesSwapped(nn.Module):
    """A linear layer whose two halves of output rows are in the other order."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    @property
    def weight(self) -> Tensor:
        """The matrix ``(out, in)`` in this order."""
        return swap_halves(self.layer.weight, 0)  # pyright: ignore

    @property
    def bias(self) -> Tensor:
        """The bias ``(out,)`` in this order."""
        return swap_halves(self.layer.bias, 0)  # pyright: ignore

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., in)`` to ``(..., out)``."""
        return swap_halves(self.layer(x), -1)
