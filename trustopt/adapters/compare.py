"""How far two patches of one layer are apart, from their factors: no dense matrix is formed."""

import torch
from torch import Tensor

from .patch import LayerPatch, cayley, kronecker_factors

# Relative rounding error and smallest step of each dtype a file may hold.
_ROUNDING = {
    torch.float32: (2.0**-24, 2.0**-149),
    torch.bfloat16: (2.0**-8, 2.0**-133),
    torch.float16: (2.0**-11, 2.0**-24),
}


def relative_difference(patch: LayerPatch, reference: LayerPatch) -> float:
    r"""Return :math:`\lVert\Delta W_1 - \Delta W_2\rVert / \lVert\Delta W_2\rVert`.

    For OFT the rotations are compared, for LoHa the factors (its change is dense), and for DoRA
    the magnitudes, too; the largest counts. A reference that changes nothing gives the norm of
    the patch itself.

    Raises:
        ValueError: If the patches are of different forms.
    """
    if patch.form != reference.form or patch.is_dora != reference.is_dora:
        raise ValueError(f"{patch.form} cannot be compared with {reference.form}")
    one, two = _double(patch), _double(reference)
    if patch.form == "lora":
        difference = _lora_difference(one, two, patch.scale, reference.scale)
    elif patch.form == "lokr":
        difference = _lokr_difference(one, two, patch.scale, reference.scale)
    elif patch.form == "loha":
        difference = sum(_ratio(one[name], two[name]) for name in two)
        difference += abs(patch.scale / reference.scale - 1.0)
    else:
        identity = torch.eye(two["oft_blocks"].shape[-1])
        difference = _ratio(cayley(patch).cpu() - identity, cayley(reference).cpu() - identity)
    if patch.is_dora:
        difference = max(difference, _ratio(one["dora_scale"], two["dora_scale"]))
    return difference


def rounding_tolerance(patch: LayerPatch) -> float:
    """Return the largest relative difference that storing a patch in its dtype explains.

    Each factor adds twice its dtype's rounding error, and half the dtype's smallest step relative
    to its own size: half precision resolves values below 6e-5 in absolute steps only.
    """
    tolerance = 1e-6
    for name, tensor in patch.tensors.items():
        relative, step = _ROUNDING.get(tensor.dtype, (2.0**-3, 2.0**-9))
        size = float(tensor.double().square().mean().sqrt())
        if name != "dora_scale" and size > 0.0:
            tolerance += 2.0 * (relative + 0.5 * step / size)
    return tolerance


def _lora_difference(
    one: dict[str, Tensor], two: dict[str, Tensor], scale_one: float, scale_two: float
) -> float:
    # The difference of two products is one product of the stacked factors.
    ups = [one["lora_up.weight"].flatten(1) * scale_one, two["lora_up.weight"].flatten(1)]
    ups[1] = ups[1] * -scale_two
    downs = [one["lora_down.weight"].flatten(1), two["lora_down.weight"].flatten(1)]
    apart = _product_norm(torch.cat(ups, dim=1), torch.cat(downs))
    return _over(apart, _product_norm(ups[1], downs[1]))


def _lokr_difference(
    one: dict[str, Tensor], two: dict[str, Tensor], scale_one: float, scale_two: float
) -> float:
    a, b = kronecker_factors(one), kronecker_factors(two)
    first = a[0] * scale_one, b[0] * scale_two
    square = (
        first[0].square().sum() * a[1].square().sum()
        - 2.0 * (first[0] * first[1]).sum() * (a[1] * b[1]).sum()
        + first[1].square().sum() * b[1].square().sum()
    )
    return _over(float(square.clamp_min(0.0).sqrt()), float(first[1].norm() * b[1].norm()))


def _product_norm(up: Tensor, down: Tensor) -> float:
    square = ((up.T @ up) * (down @ down.T)).sum()
    return float(square.clamp_min(0.0).sqrt())


def _ratio(one: Tensor, two: Tensor) -> float:
    return _over(float((one - two).norm()), float(two.norm()))


def _over(difference: float, norm: float) -> float:
    return difference / norm if norm > 0.0 else difference


def _double(patch: LayerPatch) -> dict[str, Tensor]:
    # Differences of nearly equal products cancel: float64 leaves eight digits of them.
    return {
        name: tensor.detach().to("cpu", torch.float64) for name, tensor in patch.tensors.items()
    }
