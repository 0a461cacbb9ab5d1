"""EmoNavi: Adam without bias correction, driven by the loss."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from .adam import uncorrected_adam
from .chunks import Slot
from .emo import SHADOW, EmoOptimizer, Step

SLOTS = {"exp_avg": Slot("element"), "exp_avg_sq": Slot("element")}


class EmoNavi(EmoOptimizer):
    """Adam without bias correction, driven by the loss (after muooon's EmoNavi).

    With the running averages ``m`` of the gradient and ``v`` of its square, and the loss signal's
    factor ``d`` (v3.0: ``1 - |scalar|``)::

        p = (1 - lr weight_decay) p - lr d m / (sqrt(v) + eps)

    Without bias correction the first steps are long: 3.2 lr at first, 6.6 lr at step 12, 2 lr at
    step 300.

    Args:
        params: Parameters or parameter groups; real, dense, of any shape.
        lr: Step size before the loss signal's factor.
        betas: Decay rates of the running averages, in [0, 1); None takes the version's own,
            (0.9, 0.999) or (0.9, 0.995).
        eps: Added to denominators.
        weight_decay: Each step multiplies parameters by ``1 - lr * weight_decay``.
        use_shadow: Mix in a slow copy of the parameters while the loss moves fast.
        version: ``"3.0"`` or ``"3.6"``.
        stochastic_rounding: Round updates of bfloat16 parameters at random, without bias.

    State:
        ``exp_avg`` and ``exp_avg_sq``, float32, 8 bytes a parameter; ``shadow`` if used.

    Raises:
        ValueError: If a hyperparameter is out of range.

    Source:
        muooon/EmoNavi@b1da9a59:AMP-compatible/emonavi.py (v3.0),
        @b1767a99:optimizer/emonavi.py (v3.6).
    """

    slots: ClassVar = SLOTS | SHADOW
    default_betas: ClassVar = {"3.0": (0.9, 0.999), "3.6": (0.9, 0.995)}

    early_stop_scalar: ClassVar = True

    def _update(self, group: dict[str, Any], params: list[Tensor], step: Step) -> None:
        adam_update(self, params, step)


def adam_update(
    optimizer: EmoOptimizer,
    params: list[Tensor],
    step: Step,
    names: tuple[str, str] = ("exp_avg", "exp_avg_sq"),
) -> None:
    """Adam without bias correction; ``names`` are the two averages' in the state.

    Straight on the parameters where the state is their own dtype; in chunks with float32 state
    otherwise.
    """
    if all(_is_plain(p) for p in params):
        _adam_in_place(optimizer, params, step, names)
    else:
        _adam_in_chunks(optimizer, params, step, names)


def _is_plain(p: Tensor) -> bool:
    return (
        p.dtype in (torch.float32, torch.float64)
        and p.is_contiguous()
        and p.grad is not None
        and p.grad.is_contiguous()
    )


def _adam_in_place(
    optimizer: EmoOptimizer, params: list[Tensor], step: Step, names: tuple[str, str]
) -> None:
    first, second = names
    by_kind: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for p in params:
        state = optimizer.state[p]
        if first not in state:
            state[first], state[second] = torch.zeros_like(p), torch.zeros_like(p)
        by_kind.setdefault((p.device, p.dtype), []).append(p)
    for kin in by_kind.values():
        uncorrected_adam(
            kin,
            [p.grad for p in kin],
            [optimizer.state[p][first] for p in kin],
            [optimizer.state[p][second] for p in kin],
            lr=step.size,
            beta1=step.beta1,
            beta2=step.beta2,
            eps=step.eps,
            # It decays by 1 - lr * weight_decay: divide the drive out of the decay again.
            weight_decay=(1.0 - step.decay) / step.size if step.size else 0.0,
        )
        if not step.size and step.decay != 1.0:
            torch._foreach_mul_(kin, step.decay)


def _adam_in_chunks(
    optimizer: EmoOptimizer, params: list[Tensor], step: Step, names: tuple[str, str]
) -> None:
    first, second = names
    scratch = optimizer.scratch
    slots = {name: Slot("element") for name in names}
    for chunk in optimizer.chunks(params, slots):
        grad, update = chunk.gather(scratch, "gradient"), scratch.take("update", chunk).zero_()
        uncorrected_adam(
            [update],
            [grad],
            [chunk[first]],
            [chunk[second]],
            lr=-1.0,
            beta1=step.beta1,
            beta2=step.beta2,
            eps=step.eps,
        )
        chunk.subtract(scratch, step=step.size, decay=step.decay)
