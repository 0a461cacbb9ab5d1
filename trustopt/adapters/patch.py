"""One layer's change in the form files hold it, and its arithmetic.

A patch is the common ground of adapters in training, every file format, and the checks:
adapters export patches, formats spell them, ``read_lora`` returns them, and ``merge`` says what
weight a loader makes of one. The rules are those of ComfyUI 0.33.0 comfy/weight_adapter/*.py.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

Form = Literal["lora", "loha", "lokr", "oft"]

SUFFIXES: dict[Form, tuple[str, ...]] = {
    "lora": ("lora_down.weight", "lora_up.weight"),
    "loha": ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"),
    "lokr": (
        "lokr_w1",
        "lokr_w1_a",
        "lokr_w1_b",
        "lokr_w2",
        "lokr_w2_a",
        "lokr_w2_b",
        "lokr_t2",
    ),
    "oft": ("oft_blocks",),
}
"""Tensor names of each form, as they stand after the layer's name in a file."""

_REQUIRED: dict[Form, tuple[tuple[tuple[str, ...], ...], ...]] = {
    # Each entry lists alternatives of which one must be there whole.
    "lora": ((SUFFIXES["lora"],),),
    "loha": ((SUFFIXES["loha"][:4],),),
    "lokr": (
        (("lokr_w1",), ("lokr_w1_a", "lokr_w1_b")),
        (("lokr_w2",), ("lokr_w2_a", "lokr_w2_b")),
    ),
    "oft": ((SUFFIXES["oft"],),),
}


@dataclass(frozen=True)
class LayerPatch:
    r"""What a file says about one layer.

    Forms, with :math:`s = \alpha / r` (1 without an alpha):
    ``lora`` :math:`\Delta W = s\, U D`; ``loha`` :math:`s\,(A_1 B_1) \odot (A_2 B_2)`;
    ``lokr`` :math:`s\, C_1 \otimes C_2` where only products of rank r are scaled;
    ``oft`` :math:`W' = R^\top W` with the block-diagonal Cayley transform
    :math:`R = (I + Q)(I - Q)^{-1}`, :math:`Q = b - b^\top`.
    """

    form: Form
    tensors: Mapping[str, Tensor]
    """By suffix, see ``SUFFIXES``; and ``dora_scale`` ``(1, in)`` or ``(out, 1)`` for DoRA."""
    alpha: float | None = None
    """Scale numerator; for ``oft`` a bound on the norm of Q, 0 for none."""

    @property
    def is_dora(self) -> bool:
        """Whether a ``dora_scale`` goes with the change."""
        return "dora_scale" in self.tensors

    @property
    def rank(self) -> int | None:
        """Inner dimension; the block size of ``oft``; None for a ``lokr`` without products."""
        for name in ("lora_down.weight", "hada_w1_b", "lokr_w1_b", "lokr_w2_b"):
            if name in self.tensors:
                return self.tensors[name].shape[0]
        return self.tensors["oft_blocks"].shape[-1] if self.form == "oft" else None

    @property
    def scale(self) -> float:
        """``alpha / rank``, or 1 where a loader applies none."""
        rank = self.rank
        if self.form == "oft" or self.alpha is None or rank is None:
            return 1.0
        return self.alpha / rank

    def require_complete(self, layer: str) -> None:
        """Check that every factor is there and the inner dimensions agree.

        Raises:
            ValueError: If not; names the layer and what is missing or does not fit.
        """
        for choice in _REQUIRED[self.form]:
            if not any(all(name in self.tensors for name in names) for names in choice):
                wanted = " or ".join(" and ".join(names) for names in choice)
                raise ValueError(f"{layer} lacks {wanted}; it has {', '.join(self.tensors)}")
        if self.form == "oft" and self.tensors["oft_blocks"].ndim != 3:
            shape = tuple(self.tensors["oft_blocks"].shape)
            raise ValueError(f"{layer} has oft_blocks {shape}: butterfly OFT is not supported")
        if self.form == "lora":
            up, down = self.tensors["lora_up.weight"], self.tensors["lora_down.weight"]
            if up.shape[1] != down.shape[0]:
                raise ValueError(
                    f"{layer} does not multiply: lora_up {tuple(up.shape)}, "
                    f"lora_down {tuple(down.shape)}"
                )

    def size(self) -> tuple[int, int | None]:
        """Return outputs and inputs (times kernel taps) of the layer; OFT knows no inputs."""
        shapes = {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}
        if self.form == "oft":
            return shapes["oft_blocks"][0] * shapes["oft_blocks"][1], None
        if self.form == "lora":
            return shapes["lora_up.weight"][0], math.prod(shapes["lora_down.weight"][1:])
        if "hada_t1" in shapes:
            taps = math.prod(shapes["hada_t1"][2:])
            return shapes["hada_w1_a"][1], shapes["hada_w1_b"][1] * taps
        if self.form == "loha":
            return shapes["hada_w1_a"][0], shapes["hada_w1_b"][1]
        first, second = kronecker_factors({n: t.to("meta") for n, t in self.tensors.items()})
        return first.shape[0] * second.shape[0], first.shape[1] * math.prod(second.shape[1:])

    def to(self, dtype: torch.dtype) -> "LayerPatch":
        """Return the patch with its tensors on the CPU in ``dtype``; alpha stays exact."""
        cast = {name: t.detach().to("cpu", dtype).contiguous() for name, t in self.tensors.items()}
        return replace(self, tensors=cast)


def delta(patch: LayerPatch, weight_shape: tuple[int, ...] | None = None) -> Tensor:
    """Return the dense change in float32, without DoRA's rescaling.

    Args:
        patch: A ``lora``, ``loha`` or ``lokr`` patch.
        weight_shape: Shape of the layer's weight; None leaves a matrix or what the factors give.

    Raises:
        ValueError: For ``oft``, whose change depends on the base weight (use ``merge``).
    """
    if patch.form == "oft":
        raise ValueError("an oft patch rotates the base weight: use merge(patch, weight)")
    t = {name: value.float() for name, value in patch.tensors.items()}
    product = {"lora": _lora_product, "loha": _loha_product, "lokr": _lokr_product}[patch.form]
    dense = product(t) * patch.scale
    return dense if weight_shape is None else dense.reshape(weight_shape)


def merge(patch: LayerPatch, weight: Tensor) -> Tensor:
    """Return the weight a loader at strength 1 makes of ``weight``, in float32.

    Args:
        patch: Any form.
        weight: ``(out, in)`` or ``(out, in, kh, kw)``.
    """
    weight = weight.float()
    if patch.form == "oft":
        return _rotate(patch, weight)
    merged = weight + delta(patch, tuple(weight.shape))
    if not patch.is_dora:
        return merged
    scale = patch.tensors["dora_scale"].float()
    if scale.shape[0] == weight.shape[0]:  # ComfyUI divides output rows by the norm of W itself
        norm = weight.flatten(1).norm(dim=1).view(-1, *[1] * (weight.ndim - 1))
    else:
        norm = merged.transpose(0, 1).flatten(1).norm(dim=1).view(1, -1, *[1] * (weight.ndim - 2))
    return merged * (scale / (norm + torch.finfo(torch.float32).eps))


def norm(patch: LayerPatch) -> float:
    """Return the Frobenius norm of ``delta``, or of R - I for ``oft``.

    Low-rank and Kronecker products are measured from their factors; LoHa's dense matrix is
    formed a few rows at a time.
    """
    t = {name: value.float() for name, value in patch.tensors.items()}
    if patch.form == "oft":
        rotation = cayley(patch)
        identity = torch.eye(rotation.shape[-1], device=rotation.device)
        return float((rotation - identity).norm())
    if patch.form == "lora":
        up, down = t["lora_up.weight"].flatten(1), t["lora_down.weight"].flatten(1)
        square = ((up.T @ up) * (down @ down.T)).sum()  # trace of (UD)^T UD
        return abs(patch.scale) * float(square.clamp_min(0.0).sqrt())
    if patch.form == "lokr":
        first, second = kronecker_factors(t)
        return abs(patch.scale) * float(first.norm() * second.norm())
    if "hada_t1" in t:
        return float(delta(patch).norm())
    return abs(patch.scale) * _hadamard_norm(t)


def cayley(patch: LayerPatch) -> Tensor:
    """Return the rotation R of an ``oft`` patch, ``(blocks, size, size)`` float32."""
    blocks = patch.tensors["oft_blocks"].float()
    skew = blocks - blocks.transpose(1, 2)
    if patch.alpha:
        length = skew.norm() + 1e-8
        skew = skew * (patch.alpha / length) if length > patch.alpha else skew
    identity = torch.eye(blocks.shape[-1], device=blocks.device)
    return torch.linalg.solve(identity - skew, identity + skew, left=False)


def _hadamard_norm(t: Mapping[str, Tensor], rows: int = 256) -> float:
    """Return the norm of a LoHa product, some rows at a time: those fit a processor's cache."""
    pairs = zip(t["hada_w1_a"].split(rows), t["hada_w2_a"].split(rows), strict=True)
    squares = [((a1 @ t["hada_w1_b"]) * (a2 @ t["hada_w2_b"])).square().sum() for a1, a2 in pairs]
    return float(torch.stack(squares).sum().sqrt())


def _rotate(patch: LayerPatch, weight: Tensor) -> Tensor:
    rotation = cayley(patch)
    blocks = weight.reshape(*rotation.shape[:2], -1)
    return torch.einsum("knm,kni->kmi", rotation, blocks).reshape(weight.shape)


def _lora_product(t: Mapping[str, Tensor]) -> Tensor:
    up, down = t["lora_up.weight"], t["lora_down.weight"]
    return (up.flatten(1) @ down.flatten(1)).reshape(up.shape[0], *down.shape[1:])


def _loha_product(t: Mapping[str, Tensor]) -> Tensor:
    if "hada_t1" in t:
        first = _tucker(t["hada_t1"], t["hada_w1_a"], t["hada_w1_b"])
        return first * _tucker(t["hada_t2"], t["hada_w2_a"], t["hada_w2_b"])
    return (t["hada_w1_a"] @ t["hada_w1_b"]) * (t["hada_w2_a"] @ t["hada_w2_b"])


def kronecker_factors(t: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the two factors of a ``lokr`` patch's Kronecker product, unscaled."""
    first = t["lokr_w1"] if "lokr_w1" in t else t["lokr_w1_a"] @ t["lokr_w1_b"]
    if "lokr_w2" in t:
        return first, t["lokr_w2"]
    if "lokr_t2" in t:
        return first, _tucker(t["lokr_t2"], t["lokr_w2_a"], t["lokr_w2_b"])
    return first, t["lokr_w2_a"] @ t["lokr_w2_b"]


def _lokr_product(t: Mapping[str, Tensor]) -> Tensor:
    first, second = kronecker_factors(t)
    return torch.kron(first.view(*first.shape, *[1] * (second.ndim - 2)), second)


def _tucker(core: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """``(r, r, kh, kw)``, ``(r, out)``, ``(r, in)`` -> ``(out, in, kh, kw)``."""
    return torch.einsum("ijkl,ip,jr->prkl", core, rows, columns)
