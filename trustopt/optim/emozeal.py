"""EmoZeal: EmoFact with an extra step while the loss moves."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from .chunks import Chunk
from .emo import SHADOW, EmoOptimizer, Step
from .emofact import SLOTS, divide_by_factors, factor_slots, split_by_dim
from .emonavi import adam_update
from .emoneco import tensor_norms
from .scratch import Scratch

SOFT_ABOVE, SIGN_ABOVE = 0.1, 0.6  # muooon/EmoNavi@b1da9a59:AMP-compatible/emozeal.py


class EmoZeal(EmoOptimizer):
    """EmoFact with an extra step for matrices while the loss moves (after muooon's EmoZeal).

    Before :class:`~.emofact.EmoFact`'s step, with ``b = (1 - beta1) g``::

        p = p - lr d sign(g)                            if |scalar| > 0.6
        p = p - lr d (|g| + eps) b / (1 + abs(b))       if 0.1 < |scalar| <= 0.6

    ``|g|`` is the norm over the whole tensor. Upstream's ``b`` has a momentum that is never
    advanced from 0; it is left out.

    Args:
        params: Parameters or parameter groups; real, dense, of any shape.
        lr: Step size before the loss signal's factor.
        betas: Decay rates of the running averages, in [0, 1); None takes the version's own,
            (0.9, 0.999).
        eps: Added to denominators, to the norm, and under EmoFact's roots.
        weight_decay: Each step multiplies parameters by ``1 - lr * weight_decay``.
        use_shadow: Mix in a slow copy of the parameters while the loss moves fast.
        version: ``"3.0"``, the last there is of it.
        stochastic_rounding: Round updates of bfloat16 parameters at random, without bias.

    State:
        As EmoFact in v3.0.

    Raises:
        ValueError: If a hyperparameter is out of range.

    Source:
        muooon/EmoNavi@dc44b09e:AMP-compatible/emozeal.py.
    """

    slots: ClassVar = SLOTS | SHADOW

    def _update(self, group: dict[str, Any], params: list[Tensor], step: Step) -> None:
        matrices, vectors = split_by_dim(params)
        if vectors:
            adam_update(self, vectors, step)
        if not matrices:
            return
        names = ("exp_avg_r", "exp_avg_c")
        for chunk in self.chunks(matrices, factor_slots(names)):
            grad = chunk.gather(self.scratch)
            extra = extra_step(grad, chunk, self.scratch, step)
            divide_by_factors(chunk, self.scratch, step, names)
            if extra is not None:
                # Upstream takes the extra step before the decay, which so shrinks it, too.
                direction, sizes = extra
                grad.addcmul_(direction, sizes, value=step.decay)
            chunk.subtract(self.scratch, step=step.size, decay=step.decay)


def extra_step(
    grad: Tensor, chunk: Chunk, scratch: Scratch, step: Step
) -> tuple[Tensor, Tensor] | None:
    """Return what is stepped in addition, in units of the step size; None while all is calm.

    It comes as directions ``(R, W)`` and how far to go in each row, ``(R, 1)``.
    """
    size = abs(step.scalar)
    if size <= SOFT_ABOVE:
        return None
    extra = scratch.take("extra", chunk)
    if size > SIGN_ABOVE:
        return torch.sign(grad, out=extra), grad.new_ones(1, 1)
    # b / (1 + |b|) with b = (1 - beta1) g, divided through by 1 - beta1: one buffer, fewer passes
    softness = torch.abs(grad, out=extra).add_(1.0 / (1.0 - step.beta1))
    return torch.div(grad, softness, out=extra), chunk.spread(tensor_norms(grad, chunk, step.eps))
