"""EmoLynx: Lion, driven by the loss."""

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from .chunks import Slot
from .emo import SHADOW, EmoOptimizer, Step
from .loss_signal import Version

SLOTS = {"exp_avg": Slot("element")}


class EmoLynx(EmoOptimizer):
    """Lion, driven by the loss (after muooon's EmoLynx).

    With the momentum ``m`` and the loss signal's factor ``d``::

        b = beta1 m + (1 - beta1) g
        p = (1 - lr weight_decay) p - lr d sign(b)
        m = beta2 m + (1 - beta2) g

    Args:
        params: Parameters or parameter groups; real, dense, of any shape.
        lr: Step size before the loss signal's factor.
        betas: Decay rates of the running averages, in [0, 1); None takes the version's own,
            (0.9, 0.99) or (0.9, 0.995).
        eps: Not used; part of the family's signature.
        weight_decay: Each step multiplies parameters by ``1 - lr * weight_decay``.
        use_shadow: Mix in a slow copy of the parameters while the loss moves fast.
        version: ``"3.0"`` or ``"3.6"``.
        decoupled_weight_decay: Divide weight decay by the lr the group began with.
        stochastic_rounding: Round updates of bfloat16 parameters at random, without bias.

    State:
        ``exp_avg``, float32, 4 bytes a parameter; ``shadow`` if used.

    Raises:
        ValueError: If a hyperparameter is out of range.

    Source:
        muooon/EmoNavi@325033c0:AMP-compatible/emolynx.py (v3.0),
        @b1767a99:optimizer/emolynx.py (v3.6).
    """

    slots: ClassVar = SLOTS | SHADOW
    default_betas: ClassVar = {"3.0": (0.9, 0.99), "3.6": (0.9, 0.995)}

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        use_shadow: bool = False,
        version: Version = "3.0",
        *,
        decoupled_weight_decay: bool = False,
        stochastic_rounding: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            use_shadow,
            version,
            stochastic_rounding=stochastic_rounding,
            decoupled_weight_decay=decoupled_weight_decay,
        )

    def _decay_rate(self, group: dict[str, Any], scalar: float) -> float:
        return decay_rate(group)

    def _update(self, group: dict[str, Any], params: list[Tensor], step: Step) -> None:
        lion_update(self, params, step)


def decay_rate(group: dict[str, Any]) -> float:
    """Weight decay of a group; decoupled, it is divided by the lr the group began with."""
    if not group["decoupled_weight_decay"]:
        return group["weight_decay"]
    return group["weight_decay"] / group["base_lr"] if group["base_lr"] else 0.0


def lion_update(
    optimizer: EmoOptimizer, params: list[Tensor], step: Step, name: str = "exp_avg"
) -> None:
    """Lion: step by the sign of a blend of gradient and momentum."""
    scratch = optimizer.scratch
    for chunk in optimizer.chunks(params, {name: Slot("element")}):
        grad = chunk.gather(scratch)
        exp_avg = chunk[name]
        blend = torch.lerp(exp_avg, grad, 1.0 - step.beta1, out=scratch.take("blend", chunk))
        exp_avg.lerp_(grad, 1.0 - step.beta2)
        torch.sign(blend, out=grad)
        chunk.subtract(scratch, step=step.size, decay=step.decay)
