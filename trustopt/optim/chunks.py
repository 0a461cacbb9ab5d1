"""Parameters walked in cache-sized chunks: a few large operations instead of many small ones.

A LoRA is over a thousand small matrices. One operation per matrix costs more in dispatch than in
arithmetic, and one operation over all of them falls out of the cache. A :class:`Chunk` gathers the
gradients of neighbouring tensors into one ``(rows, width)`` scratch buffer, on which the update
rule runs, and hands the result back to the parameters. The optimizer's state lives in such buffers
for good; ``state[p]`` holds views of them in the parameter's shape.

Shape letters: K tensors in the chunk, R rows, W width of a row, C numbers for each tensor.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from .scratch import Scratch

State = dict[str, Any]  # one parameter's entry in ``Optimizer.state``

CPU_CHUNK = 1 << 20  # elements; a handful of float32 buffers this long fit a CPU's last cache
DEVICE_CHUNK = 1 << 24  # elements; large enough to fill an accelerator, small beside activations
MAX_WIDTH, MIN_WIDTH = 2048, 32


@dataclass(frozen=True)
class Slot:
    """One kind of state an update rule keeps."""

    per: Literal["element", "tensor", "row", "column"]
    """``element``: the parameter's shape; ``tensor``: a scalar; ``row``: ``(O, 1, ...)``;
    ``column``: ``(1, I, ...)`` for a parameter ``(O, I, ...)``."""
    dtype: torch.dtype | None = None
    """None is the chunk's own: float32, or float64 for float64 parameters."""

    def shape_for(self, p: Tensor) -> tuple[int, ...]:
        """Shape of this state for one parameter."""
        if self.per == "element":
            return tuple(p.shape)
        if self.per == "tensor":
            return ()
        first, *rest = p.shape
        return (first, *[1] * len(rest)) if self.per == "row" else (1, *rest)


class Chunk:
    """Tensors of one dtype on one device, their state, and where they lie in the scratch buffers.

    Attributes:
        params: The K tensors, those of one shape side by side.
        dtype: What the arithmetic runs in: float32, or float64 for float64 parameters.
        is_padded: Whether some rows are longer than what they hold.
        numels: Elements of each tensor, ``(K, 1)`` in ``dtype``.
    """

    def __init__(self, params: list[Tensor], width: int) -> None:
        self.params = params
        self.device = params[0].device
        self.dtype = torch.float64 if params[0].dtype == torch.float64 else torch.float32
        self.width = width
        self.row_counts = [-(-p.numel() // width) for p in params]
        self.num_rows = sum(self.row_counts)
        self.is_padded = self.num_rows * width != sum(p.numel() for p in params)
        self.numels = torch.tensor(
            [[p.numel()] for p in params], dtype=self.dtype, device=self.device
        )
        self._even = len(set(self.row_counts)) == 1
        if not self._even:
            counts = torch.tensor(self.row_counts, device=self.device)
            self._lengths = counts
            self._owner = torch.repeat_interleave(counts)
        self._buffers: dict[str, Tensor] = {}
        self._views: dict[str, list[Tensor]] = {}
        self._valid: Tensor | None = None

    # -- state ---------------------------------------------------------------------------------

    def bind(self, state: dict[Tensor, State], slots: Mapping[str, Slot]) -> None:
        """Move the chunk's state into its own buffers, keeping the values ``state`` has.

        Args:
            state: ``Optimizer.state``; its tensors become views of the buffers.
            slots: Name and kind of everything the update rule keeps.
        """
        for name, slot in slots.items():
            if name in self._buffers:
                continue
            buffer, views = self._allocate(slot)
            for p, view in zip(self.params, views, strict=True):
                old = state[p].get(name)
                if old is not None:
                    view.copy_(old)
                state[p][name] = view
            self._buffers[name], self._views[name] = buffer, views

    def is_bound(self, state: dict[Tensor, State]) -> bool:
        """Whether ``state`` still holds this chunk's buffers and the parameters have not moved."""
        p = self.params[0]
        return p.device == self.device and all(
            state[p].get(name) is views[0] for name, views in self._views.items()
        )

    def __getitem__(self, name: str) -> Tensor:
        """Return a state buffer: ``(R, W)`` per element, ``(K, 1)`` per tensor, else flat."""
        return self._buffers[name]

    def _allocate(self, slot: Slot) -> tuple[Tensor, list[Tensor]]:
        dtype = slot.dtype or self.dtype
        if slot.per == "element":
            buffer = torch.zeros(self.num_rows, self.width, dtype=dtype, device=self.device)
            return buffer, self.place(buffer)
        shapes = [slot.shape_for(p) for p in self.params]
        sizes = [math.prod(shape) for shape in shapes]
        buffer = torch.zeros(sum(sizes), dtype=dtype, device=self.device)
        views = [v.view(s) for v, s in zip(buffer.split(sizes), shapes, strict=True)]
        return (buffer.view(-1, 1) if slot.per == "tensor" else buffer), views

    # -- in and out ----------------------------------------------------------------------------

    def gather(self, scratch: Scratch, into: str = "update") -> Tensor:
        """Copy the gradients into a scratch buffer ``(R, W)``, by default over the last update."""
        flat = scratch.take(into, self)
        if self.is_padded:
            flat.zero_()
        torch._foreach_copy_(scratch.views(into, self), [p.grad for p in self.params])
        return flat

    def subtract(self, scratch: Scratch, *, step: float = 1.0, decay: float = 1.0) -> None:
        """Set each ``p`` to ``decay * p - step * update``, the scratch buffer of that name.

        Parameters below float32 are computed in float32 and rounded once.
        """
        flat, updates = scratch.take("update", self), scratch.views("update", self)
        if self.params[0].dtype != self.dtype:
            param, views = scratch.take("param", self), scratch.views("param", self)
            torch._foreach_copy_(views, self.params)
            scratch.round_for(self.params[0].dtype, param.mul_(decay).sub_(flat, alpha=step))
            torch._foreach_copy_(self.params, views)
        elif decay == 1.0:
            torch._foreach_add_(self.params, updates, alpha=-step)
        else:
            # p + (1 - decay) * (-step / (1 - decay) * update - p): one pass over the parameters.
            flat.mul_(-step / (1.0 - decay))
            torch._foreach_lerp_(self.params, updates, 1.0 - decay)

    def place(self, flat: Tensor) -> list[Tensor]:
        """Views of an ``(R, W)`` buffer, one for each tensor, in its shape."""
        pieces = flat.view(-1).split([count * self.width for count in self.row_counts])
        return [
            piece[: p.numel()].view(p.shape) for p, piece in zip(self.params, pieces, strict=True)
        ]

    def stack(self, flat: Tensor) -> list[Tensor]:
        """View an ``(R, W)`` buffer as matrices, one batch ``(k, O, I)`` for each distinct shape.

        Dimensions after the second count as columns; a vector is one row.
        """
        batches, first_row = [], 0
        for shape, run in itertools.groupby(self.params, key=lambda p: p.shape):
            num = len(list(run))
            rows, columns = as_matrix(shape)
            stride = -(-shape.numel() // self.width) * self.width
            batches.append(
                flat.as_strided(
                    (num, rows, columns),
                    (stride, columns, 1),
                    flat.storage_offset() + first_row * self.width,
                )
            )
            first_row += num * stride // self.width
        return batches

    def stack_factors(self, flat: Tensor, per: Literal["row", "column"]) -> list[Tensor]:
        """View flat row or column values as ``(k, O, 1)`` or ``(k, 1, I)`` for each shape."""
        batches, start = [], flat.storage_offset()
        for shape, run in itertools.groupby(self.params, key=lambda p: p.shape):
            num, (rows, columns) = len(list(run)), as_matrix(shape)
            size, strides = (
                ((num, rows, 1), (rows, 1, 1))
                if per == "row"
                else ((num, 1, columns), (columns, columns, 1))
            )
            batches.append(flat.as_strided(size, strides, start))
            start += math.prod(size)
        return batches

    # -- one number per tensor -----------------------------------------------------------------

    def total(self, row_sums: Tensor) -> Tensor:
        """Add row sums ``(R, C)`` up to those of each tensor, ``(K, C)``.

        The order of summation is fixed, so that a resumed run repeats it on any device.
        """
        if self._even:
            return row_sums.view(len(self.params), -1, row_sums.shape[1]).sum(1)
        if self.device.type in ("cpu", "cuda"):
            return torch.segment_reduce(row_sums, "sum", lengths=self._lengths, unsafe=True)
        sums = row_sums.new_zeros(len(self.params), row_sums.shape[1])
        return sums.index_add_(0, self._owner, row_sums)

    def spread(self, per_tensor: Tensor) -> Tensor:
        """Repeat the numbers of each tensor, ``(K, C)``, over its rows: ``(R, C)``."""
        if self._even:
            return per_tensor.repeat_interleave(self.row_counts[0], dim=0)
        return per_tensor[self._owner]

    def without_padding(self, flat: Tensor) -> Tensor:
        """Return ``(R, W)`` values with the row ends that belong to no tensor set to 0."""
        if not self.is_padded:
            return flat
        if self._valid is None:
            self._valid = torch.zeros_like(flat)
            torch._foreach_add_(self.place(self._valid), 1.0)
        return flat * self._valid


def as_matrix(shape: torch.Size) -> tuple[int, int]:
    """Rows and columns of a tensor: its first dimension, and all others; a vector is one row."""
    if len(shape) < 2:
        return 1, shape.numel()
    return shape[0], shape[1:].numel()


def build_chunks(params: Sequence[Tensor], limit: int | None = None) -> list[Chunk]:
    """Cut parameters into chunks.

    Args:
        params: Tensors with at least one element.
        limit: Most elements in a chunk of several tensors; None takes the device's own.
    """
    chunks: list[Chunk] = []
    run: list[Tensor] = []
    size = 0
    for p in sorted(params, key=lambda p: (*_kind(p), p.numel(), tuple(p.shape))):
        most = limit or (CPU_CHUNK if p.device.type == "cpu" else DEVICE_CHUNK)
        if run and (_kind(run[0]) != _kind(p) or size + p.numel() > most):
            chunks.append(Chunk(run, row_width(run)))
            run, size = [], 0
        run.append(p)
        size += p.numel()
    if run:
        chunks.append(Chunk(run, row_width(run)))
    return chunks


def row_width(params: Sequence[Tensor]) -> int:
    """Choose a row width: a large common divisor of all sizes, else 32 and some padding."""
    numels = {p.numel() for p in params}
    common = math.gcd(*numels)
    if common <= MAX_WIDTH and (common >= MIN_WIDTH or len(numels) == 1):
        return common
    for width in range(MAX_WIDTH, MIN_WIDTH - 1, -1):
        if common % width == 0:
            return width
    return MIN_WIDTH


def _kind(p: Tensor) -> tuple[str, str]:
    return str(p.device), str(p.dtype)
