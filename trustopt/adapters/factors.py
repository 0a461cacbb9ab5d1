"""One layer's factors as PEFT names them <-> the patch a file holds."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .layers import DoraLayer
from .patch import Form, LayerPatch

_FORMS: dict[str, Form] = {"loha": "loha", "lokr": "lokr", "oft": "oft"}  # all others: lora


def to_patch(layer: Any, factors: Mapping[str, Tensor], algorithm: str, rank: int) -> LayerPatch:
    """Return a layer's change as it is now; the tensors are the live ones, detached.

    The scale is exact in every loader: rsLoRA's ``alpha / sqrt(r)`` is written as the alpha that
    gives it when divided by r, and LoKr's is multiplied into a factor where loaders apply none.

    Raises:
        ValueError: For DoRA before the first forward, which measures the base weights.
    """
    tensors = {name: tensor.detach() for name, tensor in factors.items()}
    form = _FORMS.get(algorithm, "lora")
    if form == "oft":
        return LayerPatch("oft", {"oft_blocks": _skew(tensors["oft_R.weight"]) * -0.5}, 0.0)
    scaling = layer.scaling["default"]
    if form == "lora":
        renamed = {
            "lora_down.weight": tensors["lora_A.weight"],
            "lora_up.weight": tensors["lora_B.weight"],
        }
        if isinstance(layer, DoraLayer):
            renamed["dora_scale"] = layer.dora_scale()
        return LayerPatch("lora", renamed, scaling * rank)
    if "lokr_w1" in tensors and "lokr_w2" in tensors:
        tensors["lokr_w1"] = tensors["lokr_w1"] * scaling
        return LayerPatch("lokr", tensors, float(rank))
    return LayerPatch(form, tensors, scaling * rank)


def to_factors(layer: Any, patch: LayerPatch, algorithm: str) -> dict[str, Tensor]:
    """Return a patch as factors of an adapter layer, in that layer's scale.

    Raises:
        ValueError: If the patch is of another algorithm, or a constrained OFT.
    """
    form = _FORMS.get(algorithm, "lora")
    is_dora = isinstance(layer, DoraLayer)
    if form != patch.form or is_dora != patch.is_dora:
        found = "dora" if patch.is_dora else patch.form
        raise ValueError(
            f"the file holds {found}, this run trains {algorithm}; "
            "choose the file's algorithm to continue it"
        )
    if form == "oft":
        if patch.alpha:
            raise ValueError("the file holds a constrained oft (alpha above 0), not trained here")
        blocks = patch.tensors["oft_blocks"]
        rows, cols = torch.triu_indices(blocks.shape[-1], blocks.shape[-1], 1)
        return {"oft_R.weight": (blocks.transpose(1, 2) - blocks)[:, rows, cols]}
    ratio = patch.scale / layer.scaling["default"]
    if form == "lora":
        if is_dora:
            layer.start_from(patch.tensors["dora_scale"])
        return {
            "lora_A.weight": patch.tensors["lora_down.weight"],
            "lora_B.weight": patch.tensors["lora_up.weight"] * ratio,
        }
    scaled = "hada_w1_a" if form == "loha" else next(n for n in patch.tensors if "_w1" in n)
    return {n: t * ratio if n == scaled else t for n, t in patch.tensors.items()}


def place(target: Tensor, source: Tensor, factor: str) -> None:
    """Copy a factor in place; LoRA's may have fewer components than the target.

    The further rows of ``lora_A`` stay as they are and the further columns of ``lora_B`` are
    zeroed, so the change is the source's.

    Raises:
        ValueError: If the shapes do not fit.
    """
    axis = {"lora_A": 0, "lora_B": 1}.get(factor.partition(".")[0])
    fits = source.ndim == target.ndim and all(
        s <= t if dim == axis else s == t
        for dim, (s, t) in enumerate(zip(source.shape, target.shape, strict=True))
    )
    if not fits:
        raise ValueError(
            f"the file's {factor} is {tuple(source.shape)}, this run's is {tuple(target.shape)}; "
            "train with the file's rank and on its model, or resize the file first"
        )
    if axis == 1:
        target.zero_()
    target[tuple(slice(size) for size in source.shape)] = source.to(target)


def shrink(factors: Mapping[str, Tensor], ratio: float) -> None:
    """Multiply the change by ``ratio``, in place and shared over two factors; not for OFT."""
    root = ratio**0.5
    pairs = (("lora_A", "lora_B"), ("hada_w1_a", "hada_w2_a"), ("lokr_w1", "lokr_w2"))
    for first, second in pairs:
        one = [name for name in factors if name.startswith(first)][:1]
        two = [name for name in factors if name.startswith(second)][:1]
        for name in one + two:
            factors[name].mul_(root)


def _skew(vectors: Tensor) -> Tensor:
    """Return skew-symmetric blocks ``(n, size, size)`` from their upper triangles."""
    count, elements = vectors.shape
    size = (1 + round((1 + 8 * elements) ** 0.5)) // 2
    upper = vectors.new_zeros(count, size, size)
    rows, cols = torch.triu_indices(size, size, 1)
    upper[:, rows, cols] = vectors
    return upper - upper.transpose(1, 2)
