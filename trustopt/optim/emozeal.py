"""EmoZeal: EmoFact with an extra step while the loss moves."""

from typing import Any

import torch
from torch import Tensor

from .chunks import Chunk, Scratch, Slot
from .emo import SHADOW, EmoOptimizer, Step
from .emofact import SLOTS, normalize_by_factors, split_by_dim
from .emonavi import adam_update
from .emoneco import soft_sign

SOFT_ABOVE, SIGN_ABOVE = 0.1, 0.6  # muooon/EmoNavi@b1da9a59:AMP-compatible/emozeal.py


class EmoZeal(EmoOptimizer):
    slots = SLOTS | SHADOW
    uniform = True

    def _update(self, group: dict[str, Any], params: list[Tensor], step: Step) -> None:
        matrices, vectors = split_by_dim(params)
        if vectors:
            adam_update(self, vectors, step)
        if not matrices:
            return
        names = ("exp_avg_r", "exp_avg_c")
        slots = {names[0]: Slot("row"), names[1]: Slot("column")}
        for chunk in self._chunks(matrices, slots, uniform=True):
            grad = chunk.gather(self._scratch)
            extra = extra_step(grad, chunk, self._scratch, step)
            normalize_by_factors(chunk, self._scratch, step, names)
            if extra is not None:
                # Upstream takes the extra step before the decay, which so shrinks it, too.
                grad.add_(extra, alpha=step.decay)
            chunk.subtract(self._scratch, step=step.size, decay=step.decay)


def extra_step(grad: Tensor, chunk: Chunk, scratch: Scratch, step: Step) -> Tensor | None:
    """Return what is stepped in addition, in units of the step size; None while all is calm."""
    size = abs(step.scalar)
    if size <= SOFT_ABOVE:
        return None
    extra = scratch.take("extra", chunk)
    if size > SIGN_ABOVE:
        return torch.sign(grad, out=extra)
    extra.copy_(grad)
    blend = torch.mul(grad, 1.0 - step.beta1, out=scratch.take("size", chunk))
    soft_sign(blend, extra, chunk, scratch, step.eps)
    return extra
