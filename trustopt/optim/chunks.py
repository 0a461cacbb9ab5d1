"""Parameters walked in cache-sized chunks: a few large operations instead of many small ones.

A LoRA is over a thousand small matrices. One operation per matrix costs more in dispatch than in
arithmetic, and one operation over all of them falls out of the cache. A :class:`Chunk` gathers the
gradients of neighbouring tensors into one ``(rows, width)`` scratch buffer, on which the update rule
runs, and hands the result back to the parameters. The optimizer's state lives in such buffers for
good; ``state[p]`` holds views of them in the parameter's shape.

Shape letters: K tensors in the chunk, R rows, W width of a row.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

State = dict[str, Any]  # one parameter's entry in ``Optimizer.state``

CPU_CHUNK = 1 << 18  # elements; the buffers of one chunk then fit a core's share of the cache
DEVICE_CHUNK = 1 << 24  # elements; large enough to fill an accelerator, small beside activations
MAX_WIDTH, MIN_WIDTH = 2048, 64


@dataclass(frozen=True)
class Slot:
    """One kind of state an update rule keeps."""

    per: Literal["element", "tensor", "row", "column"]
    """``element``: the parameter's shape; ``tensor``: a scalar; ``row``: ``(O, 1, ...)``;
    ``column``: ``(1, I, ...)`` for a parameter ``(O, I, ...)``."""
    dtype: torch.dtype | None = None
    """None is the chunk's own: float32, or float64 for float64 parameters."""


class Chunk:
    """Tensors of one dtype on one device, their state, and where they lie in the scratch buffers.

    Attributes:
        params: The K tensors.
        numels: Elements of each tensor, ``(K, 1)`` in ``dtype``.
        dtype: What the arithmetic runs in: float32, or float64 for float64 parameters.
        uniform: Whether all K tensors have one shape.
    """

    def __init__(self, params: list[Tensor], width: int) -> None:
        self.params = params
        self.device = params[0].device
        self.dtype = torch.float64 if params[0].dtype == torch.float64 else torch.float32
        self.width = width
        self.row_counts = [-(-p.numel() // width) for p in params]
        self.num_rows = sum(self.row_counts)
        self.is_padded = self.num_rows * width != sum(p.numel() for p in params)
        self.starts = [0]
        for count in self.row_counts[:-1]:
            self.starts.append(self.starts[-1] + count * width)
        self.uniform = all(p.shape == params[0].shape for p in params)
        self.numels = torch.tensor(
            [[p.numel()] for p in params], dtype=self.dtype, device=self.device
        )
        self._even = len(set(self.row_counts)) == 1
        if not self._even:
            self._index_rows()
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
        """Return a state buffer: ``(R, W)`` per element, ``(K, 1)`` per tensor."""
        return self._buffers[name]

    def stacked(self, flat: Tensor) -> Tensor:
        """View an ``(R, W)`` buffer of a uniform chunk as ``(K, *shape)``."""
        shape = self.params[0].shape
        strides = torch.empty(shape, device="meta").stride()
        per_tensor = self.row_counts[0] * self.width
        return flat.as_strided((len(self.params), *shape), (per_tensor, *strides))

    # -- in and out ----------------------------------------------------------------------------

    def gather(self, scratch: "Scratch") -> Tensor:
        """Copy the gradients into scratch ``(R, W)``; a rule may overwrite it with its update."""
        flat = scratch.take("update", self)
        if self.is_padded:
            flat.zero_()
        torch._foreach_copy_(scratch.views("update", self), [p.grad for p in self.params])
        return flat

    def subtract(self, scratch: "Scratch", *, step: float = 1.0, decay: float = 1.0) -> None:
        """Set each ``p`` to ``decay * p - step * update``, ``update`` being what gather returned.

        Parameters below float32 are computed in float32 and rounded once.
        """
        updates = scratch.views("update", self)
        if self.params[0].dtype == self.dtype:
            if decay != 1.0:
                torch._foreach_mul_(self.params, decay)
            torch._foreach_add_(self.params, updates, alpha=-step)
            return
        flat, views = scratch.take("param", self), scratch.views("param", self)
        torch._foreach_copy_(views, self.params)
        flat.mul_(decay).sub_(scratch.take("update", self), alpha=step)
        scratch.round_for(self.params[0].dtype, flat)
        torch._foreach_copy_(self.params, views)

    def place(self, flat: Tensor) -> list[Tensor]:
        """Views of an ``(R, W)`` buffer, one for each tensor, in its shape."""
        flat = flat.view(-1)
        return [
            flat[start : start + p.numel()].view(p.shape)
            for p, start in zip(self.params, self.starts, strict=True)
        ]

    # -- one number per tensor -----------------------------------------------------------------

    def total(self, row_sums: Tensor) -> Tensor:
        """Add row sums ``(R,)`` up to one number for each tensor, ``(K, 1)``.

        The order of summation is fixed, so that a resumed run repeats it on any device.
        """
        if self._even:
            return row_sums.view(len(self.params), -1).sum(1, keepdim=True)
        padded = torch.cat([row_sums, row_sums.new_zeros(1)])
        return padded[self._rows_of].sum(1, keepdim=True)

    def spread(self, per_tensor: Tensor) -> Tensor:
        """Repeat one number for each tensor, ``(K, 1)``, over its rows: ``(R, 1)``."""
        if self._even:
            return per_tensor.expand(-1, self.row_counts[0]).reshape(-1, 1)
        return per_tensor[self._owner]

    def without_padding(self, flat: Tensor) -> Tensor:
        """Return ``(R, W)`` values with the row ends that belong to no tensor set to 0."""
        if not self.is_padded:
            return flat
        if self._valid is None:
            self._valid = torch.zeros_like(flat)
            torch._foreach_add_(self.place(self._valid), 1.0)
        return flat * self._valid

    def _index_rows(self) -> None:
        """Prepare the sums over tensors that differ in their number of rows."""
        most = max(self.row_counts)
        owner, rows_of, first = [], [], 0
        for k, count in enumerate(self.row_counts):
            owner += [k] * count
            rows_of.append([*range(first, first + count), *[self.num_rows] * (most - count)])
            first += count
        self._owner = torch.tensor(owner, device=self.device)
        self._rows_of = torch.tensor(rows_of, device=self.device)

    def _allocate(self, slot: Slot) -> tuple[Tensor, list[Tensor]]:
        dtype = slot.dtype or self.dtype
        num = len(self.params)
        if slot.per == "element":
            buffer = torch.zeros(self.num_rows, self.width, dtype=dtype, device=self.device)
            return buffer, self.place(buffer)
        if slot.per == "tensor":
            buffer = torch.zeros(num, 1, dtype=dtype, device=self.device)
            return buffer, list(buffer.view(-1).unbind(0))
        first, *rest = self.params[0].shape
        shape = (first, *[1] * len(rest)) if slot.per == "row" else (1, *rest)
        buffer = torch.zeros(num, *shape, dtype=dtype, device=self.device)
        return buffer, list(buffer.unbind(0))


class Scratch:
    """Working buffers shared by all chunks of one optimizer, each as large as the largest chunk.

    Args:
        stochastic_seed: Round updates of bfloat16 parameters at random, without bias, drawing
            from a generator of this seed on each device; None rounds to nearest.
    """

    def __init__(self, stochastic_seed: int | None = None) -> None:
        self.stochastic_seed = stochastic_seed
        self.generators: dict[str, torch.Generator] = {}
        self._flats: dict[tuple[str, torch.device, torch.dtype], Tensor] = {}
        self._taken: dict[tuple[str, Chunk], tuple[Tensor, list[Tensor]]] = {}

    def take(self, name: str, chunk: Chunk) -> Tensor:
        """Return the buffer called ``name``, ``(R, W)``, with whatever it held last."""
        return self._take(name, chunk)[0]

    def views(self, name: str, chunk: Chunk) -> list[Tensor]:
        """Return the same buffer as one view for each tensor of the chunk, in its shape."""
        flat, views = self._take(name, chunk)
        if not views:
            views += chunk.place(flat)
        return views

    def clear(self) -> None:
        """Forget all buffers; the generators stay."""
        self._flats.clear()
        self._taken.clear()

    def round_for(self, dtype: torch.dtype, flat: Tensor) -> None:
        """Replace float32 values by their random neighbours in bfloat16, if that is asked for.

        Adding 16 random bits below the kept ones and cutting them off goes up with a probability
        equal to the part cut off, so small updates survive on average.
        """
        if self.stochastic_seed is None or dtype != torch.bfloat16:
            return
        bits = flat.view(torch.int32)
        noise = torch.randint(
            0,
            1 << 16,
            bits.shape,
            dtype=torch.int32,
            device=flat.device,
            generator=self.generator_on(flat.device),
        )
        bits.add_(noise).bitwise_and_(-(1 << 16))

    def generator_on(self, device: torch.device) -> torch.Generator:
        """Return the generator of the random rounding on a device."""
        key = str(device)
        if key not in self.generators:
            self.generators[key] = torch.Generator(device).manual_seed(self.stochastic_seed or 0)
        return self.generators[key]

    def _take(self, name: str, chunk: Chunk) -> tuple[Tensor, list[Tensor]]:
        taken = self._taken.get((name, chunk))
        if taken is not None:
            return taken
        key, size = (name, chunk.device, chunk.dtype), chunk.num_rows * chunk.width
        flat = self._flats.get(key)
        if flat is None or flat.numel() < size:
            self._taken = {k: v for k, v in self._taken.items() if k[0] != name}
            flat = torch.zeros(size, dtype=chunk.dtype, device=chunk.device)
            self._flats[key] = flat
        taken = flat[:size].view(chunk.num_rows, chunk.width), []
        self._taken[name, chunk] = taken
        return taken


def build_chunks(
    params: Sequence[Tensor], *, uniform: bool, limit: int | None = None
) -> list[Chunk]:
    """Cut parameters into chunks.

    Args:
        params: Tensors with at least one element.
        uniform: Give each chunk tensors of one shape only.
        limit: Most elements in a chunk of several tensors; None takes the device's own.
    """
    chunks: list[Chunk] = []
    ordered = sorted(params, key=lambda p: (str(p.device), str(p.dtype), p.numel(), tuple(p.shape)))
    run: list[Tensor] = []
    size = 0
    for p in ordered:
        most = limit or (CPU_CHUNK if p.device.type == "cpu" else DEVICE_CHUNK)
        if run and (not _go_together(run[-1], p, uniform) or size + p.numel() > most):
            chunks.append(Chunk(run, row_width(run)))
            run, size = [], 0
        run.append(p)
        size += p.numel()
    if run:
        chunks.append(Chunk(run, row_width(run)))
    return chunks


def row_width(params: Sequence[Tensor]) -> int:
    """Choose the row width: a common divisor of all sizes where one is large enough, so that
    nothing is padded; otherwise 64.
    """
    numels = {p.numel() for p in params}
    common = math.gcd(*numels)
    if common <= MAX_WIDTH and (common >= MIN_WIDTH or len(numels) == 1):
        return common
    for width in range(MAX_WIDTH, MIN_WIDTH - 1, -1):
        if common % width == 0:
            return width
    return MIN_WIDTH


def _go_together(a: Tensor, b: Tensor, uniform: bool) -> bool:
    return (a.device, a.dtype) == (b.device, b.dtype) and (not uniform or a.shape == b.shape)
