"""Working buffers of the chunked update, and random rounding to bfloat16."""

from typing import Protocol

import torch
from torch import Tensor


class Layout(Protocol):
    """What a scratch buffer must know of the chunk that uses it."""

    device: torch.device
    dtype: torch.dtype
    num_rows: int
    width: int

    def place(self, flat: Tensor) -> list[Tensor]:
        """Views of an ``(R, W)`` buffer, one for each tensor."""
        ...

    def stack(self, flat: Tensor) -> list[Tensor]:
        """Views of an ``(R, W)`` buffer, one batch of matrices for each shape."""
        ...


class Scratch:
    """Buffers shared by all chunks of one optimizer, each as long as the longest chunk.

    Args:
        stochastic_seed: Round updates of bfloat16 parameters at random, without bias, drawing
            from a generator of this seed on each device; None rounds to nearest.

    Attributes:
        generators: The generators so far, by device.
    """

    def __init__(self, stochastic_seed: int | None = None) -> None:
        self.stochastic_seed = stochastic_seed
        self.generators: dict[str, torch.Generator] = {}
        self._flats: dict[tuple[str, torch.device, torch.dtype], Tensor] = {}
        self._views: dict[tuple[str, str, Layout], list[Tensor]] = {}

    def take(self, name: str, chunk: Layout) -> Tensor:
        """Return the buffer called ``name``, ``(R, W)``, with whatever it held last."""
        return self._cached(name, "whole", chunk)[0]

    def views(self, name: str, chunk: Layout) -> list[Tensor]:
        """Return the same buffer as one view for each tensor of the chunk, in its shape."""
        return self._cached(name, "each", chunk)

    def stacks(self, name: str, chunk: Layout) -> list[Tensor]:
        """Return the same buffer as one batch of matrices ``(k, O, I)`` for each shape."""
        return self._cached(name, "stacked", chunk)

    def clear(self) -> None:
        """Forget all buffers; the generators stay."""
        self._flats.clear()
        self._views.clear()

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

    def _cached(self, name: str, how: str, chunk: Layout) -> list[Tensor]:
        found = self._views.get((name, how, chunk))
        if found is not None:
            return found
        flat = self._flat(name, chunk)
        split = {"whole": lambda f: [f], "each": chunk.place, "stacked": chunk.stack}
        views = self._views[name, how, chunk] = split[how](flat)
        return views

    def _flat(self, name: str, chunk: Layout) -> Tensor:
        key, size = (name, chunk.device, chunk.dtype), chunk.num_rows * chunk.width
        flat = self._flats.get(key)
        if flat is None or flat.numel() < size:
            self._views = {k: v for k, v in self._views.items() if k[0] != name}
            flat = self._flats[key] = torch.zeros(size, dtype=chunk.dtype, device=chunk.device)
        return flat[:size].view(chunk.num_rows, chunk.width)
