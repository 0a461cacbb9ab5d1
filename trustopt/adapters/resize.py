"""Lower the rank of a LoRA by SVD, and turn LoHa and LoKr into plain LoRA."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .patch import LayerPatch, delta


@dataclass(frozen=True, kw_only=True)
class ResizeReport:
    """What a resize kept."""

    ranks: Mapping[str, int]
    """Layer -> new rank."""
    retained: Mapping[str, float]
    """Layer -> share of its squared Frobenius norm that is left, in [0, 1]."""
    total_retained: float
    """The same over all layers together."""

    def summary(self) -> str:
        """Return one line for a node or a terminal."""
        low, high = min(self.ranks.values()), max(self.ranks.values())
        ranks = f"rank {low}" if low == high else f"ranks {low} to {high}"
        worst = min(self.retained, key=lambda name: self.retained[name])
        return (
            f"{len(self.ranks)} layers at {ranks}; {self.total_retained:.2%} of the energy kept, "
            f"least {self.retained[worst]:.2%} at {worst}"
        )


def resize(
    patches: Mapping[str, LayerPatch], *, rank: int | None = None, energy: float | None = None
) -> tuple[dict[str, LayerPatch], ResizeReport]:
    """Return patches of lower rank that are closest to the given ones, and what was kept.

    Args:
        patches: ``lora`` of any kind, ``loha`` or ``lokr``; the result is plain ``lora`` (DoRA
            keeps its magnitudes). The strength of every layer stays: alpha shrinks with the rank.
        rank: Largest rank; None is no bound.
        energy: Smallest share of each layer's squared norm to keep, in (0, 1]; each layer gets
            the lowest rank that does. None keeps ``rank`` components.

    Raises:
        ValueError: If neither or an impossible bound is given, or a patch is ``oft``.
    """
    if rank is None and energy is None:
        raise ValueError("resize needs a rank, an energy to keep, or both")
    if rank is not None and rank < 1:
        raise ValueError(f"rank must be at least 1, got {rank}")
    if energy is not None and not 0.0 < energy <= 1.0:
        raise ValueError(f"energy must be in (0, 1], got {energy}")
    resized: dict[str, LayerPatch] = {}
    ranks, kept, total = {}, {}, {}
    for name, patch in patches.items():
        if patch.form == "oft":
            raise ValueError(f"{name} is an oft, which has no rank to lower: leave it as it is")
        resized[name], values = _resize_layer(patch, rank, energy)
        ranks[name] = resized[name].tensors["lora_down.weight"].shape[0]
        squares = values.square()
        kept[name], total[name] = float(squares[: ranks[name]].sum()), float(squares.sum())
    report = ResizeReport(
        ranks=ranks,
        retained={name: _share(kept[name], total[name]) for name in kept},
        total_retained=_share(sum(kept.values()), sum(total.values())),
    )
    return resized, report


def _resize_layer(
    patch: LayerPatch, rank: int | None, energy: float | None
) -> tuple[LayerPatch, Tensor]:
    """Return the resized patch and all singular values of its change."""
    left, values, right, kernel = _decompose(patch)
    count = len(values) if rank is None else min(rank, len(values))
    if energy is not None:
        share = values.square().cumsum(0) / values.square().sum().clamp_min(1e-300)
        # Rounding must not ask for one component more than the energy does.
        needed = int((share < energy - 1e-9).sum()) + 1
        count = min(count, needed)
    root = values[:count].sqrt()
    scale = abs(patch.scale) or 1.0
    dtype = next(iter(patch.tensors.values())).dtype
    up = (left[:, :count] * root / scale**0.5).to(dtype)
    down = (right[:count] * root[:, None] / scale**0.5).to(dtype)
    tensors = {
        "lora_down.weight": down.reshape(count, *kernel).contiguous(),
        "lora_up.weight": up.reshape(*up.shape, *[1] * (len(kernel) - 1)).contiguous(),
    }
    if patch.is_dora:
        tensors["dora_scale"] = patch.tensors["dora_scale"]
    return LayerPatch("lora", tensors, scale * count), values


def _decompose(patch: LayerPatch) -> tuple[Tensor, Tensor, Tensor, tuple[int, ...]]:
    """Return U, S, V^T of the scaled change as a matrix, and the shape of a down factor's row."""
    if patch.form != "lora":
        dense = delta(patch).double()
        return *torch.linalg.svd(dense.flatten(1), full_matrices=False), tuple(dense.shape[1:])
    up = patch.tensors["lora_up.weight"].double().flatten(1) * patch.scale
    down = patch.tensors["lora_down.weight"].double()
    # QR of both factors leaves an r x r matrix to decompose, however large the layer is.
    left, upper = torch.linalg.qr(up)
    right, lower = torch.linalg.qr(down.flatten(1).T)
    u, values, vh = torch.linalg.svd(upper @ lower.T)
    rank = min(len(values), *u.shape, *vh.shape)
    return left @ u[:, :rank], values[:rank], vh[:rank] @ right.T, tuple(down.shape[1:])


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0.0 else 1.0
