"""One fused layer <-> the layers diffusers holds in its place (FLUX's q, k, v and MLP)."""

from collections.abc import Mapping

import torch
from torch import Tensor

from .diffusers_names import part_sizes
from .patch import LayerPatch


def split(patch: LayerPatch, count: int) -> list[LayerPatch]:
    """Return the parts of a fused ``lora`` patch: its down factor, and slices of its up factor.

    A patch whose up factor is block-diagonal, as ``fuse`` makes it, gets back the components of
    each block alone, so a round trip returns the same factors.
    """
    if count == 1:
        return [patch]
    up, down = patch.tensors["lora_up.weight"], patch.tensors["lora_down.weight"]
    slices = up.split(part_sizes(count, up.shape[0], down.shape[1]))
    used = [_components(rows) for rows in slices]
    if not _is_block_diagonal(used, up.shape[1]):
        used = [slice(None)] * count
    return [_take(patch, rows, components) for rows, components in zip(slices, used, strict=True)]


def fuse(name: str, parts: Mapping[int, LayerPatch], count: int) -> LayerPatch:
    r"""Return the fused patch of the parts a file has; parts it lacks do not change.

    Parts with one common down factor stack their up factors. Otherwise the downs are stacked and
    the ups stand on the diagonal of zeros. Loaders divide alpha by the new rank, so alpha grows
    with it: :math:`\alpha' = s\,(r_q + r_k + r_v)`, which is three times alpha for equal parts.

    Raises:
        ValueError: If a part is no plain LoRA, or the parts differ in their input.
    """
    for patch in parts.values():
        if patch.form != "lora" or patch.is_dora:
            kind = "dora" if patch.is_dora else patch.form
            raise ValueError(
                f"{name} is split into parts that are {kind}: only plain LoRA can be fused"
            )
    first = next(iter(parts.values()))
    downs = [patch.tensors["lora_down.weight"] for patch in parts.values()]
    if any(down.shape[1:] != downs[0].shape[1:] for down in downs):
        raise ValueError(f"{name}: the parts take inputs {[tuple(d.shape) for d in downs]}")
    sizes = _row_sizes(parts, count, downs[0].shape[1])
    ups = {index: _rescaled_up(patch, first.scale) for index, patch in parts.items()}
    is_shared = len(parts) == count and all(torch.equal(down, downs[0]) for down in downs)
    up = _stacked(ups, sizes) if is_shared else _diagonal(ups, sizes)
    down = downs[0] if is_shared else torch.cat(downs)
    alpha = first.scale * down.shape[0]
    return LayerPatch("lora", {"lora_down.weight": down, "lora_up.weight": up}, alpha)


def _row_sizes(parts: Mapping[int, LayerPatch], count: int, hidden: int) -> list[int]:
    rows = {index: patch.tensors["lora_up.weight"].shape[0] for index, patch in parts.items()}
    if count == 3:
        return [next(iter(rows.values()))] * 3
    return [hidden, hidden, hidden, rows.get(3, 4 * hidden)]


def _rescaled_up(patch: LayerPatch, scale: float) -> Tensor:
    up = patch.tensors["lora_up.weight"]
    return up if patch.scale == scale else (up.float() * (patch.scale / scale)).to(up.dtype)


def _stacked(ups: Mapping[int, Tensor], sizes: list[int]) -> Tensor:
    return torch.cat([ups[index] for index in range(len(sizes))])


def _diagonal(ups: Mapping[int, Tensor], sizes: list[int]) -> Tensor:
    some = next(iter(ups.values()))
    up = some.new_zeros(sum(sizes), sum(block.shape[1] for block in ups.values()))
    column = 0
    for index, block in ups.items():
        row = sum(sizes[:index])
        up[row : row + block.shape[0], column : column + block.shape[1]] = block
        column += block.shape[1]
    return up


def _components(rows: Tensor) -> slice:
    """Return the range of components that reach these rows."""
    columns = rows.any(dim=0).nonzero().flatten()
    return slice(int(columns[0]), int(columns[-1]) + 1) if len(columns) else slice(0, 0)


def _is_block_diagonal(used: list[slice], rank: int) -> bool:
    """Return whether the ranges follow one another and cover every component."""
    starts = [part.start for part in used] + [rank]
    return starts[0] == 0 and all(
        part.stop == start and part.stop > part.start
        for part, start in zip(used, starts[1:], strict=True)
    )


def _take(patch: LayerPatch, rows: Tensor, components: slice) -> LayerPatch:
    down = patch.tensors["lora_down.weight"][components]
    tensors = {"lora_down.weight": down, "lora_up.weight": rows[:, components].contiguous()}
    return LayerPatch("lora", tensors, patch.scale * down.shape[0])
