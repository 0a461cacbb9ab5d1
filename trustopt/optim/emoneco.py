"""EmoNeco: cautious Lion, softened while the loss moves moderately."""

from typing import Any

import torch
from torch import Tensor

from .chunks import Chunk, Scratch, Slot
from .emo import Step
from .emolynx import EmoLynx

SLOTS = {"exp_avg": Slot("element")}
SOFT_FROM, SOFT_TO = 0.2, 0.5  # muooon/EmoNavi@b1da9a59:AMP-compatible/emoneco.py


class EmoNeco(EmoLynx):
    default_betas = {"3.0": (0.9, 0.99)}

    def _update(self, group: dict[str, Any], params: list[Tensor], step: Step) -> None:
        soft = SOFT_FROM < abs(step.scalar) <= SOFT_TO
        for chunk in self._chunks(params, SLOTS):
            grad = chunk.gather(self._scratch)
            exp_avg = chunk["exp_avg"]
            blend = torch.lerp(
                exp_avg, grad, 1.0 - step.beta1, out=self._scratch.take("blend", chunk)
            )
            exp_avg.lerp_(grad, 1.0 - step.beta2)
            if soft:
                soft_sign(blend, grad, chunk, self._scratch, step.eps)
            else:
                cautious_sign(blend, grad)
            chunk.subtract(self._scratch, step=step.size, decay=step.decay)


def soft_sign(blend: Tensor, grad: Tensor, chunk: Chunk, scratch: Scratch, eps: float) -> None:
    """Overwrite ``grad`` by ``(|g|_2 + eps) * b / (1 + |b|)``, the norm over each whole tensor."""
    norm = chunk.total(torch.linalg.vector_norm(grad, dim=1).square_()).sqrt_().add_(eps)
    softness = torch.abs(blend, out=scratch.take("softness", chunk)).add_(1.0)
    torch.div(blend, softness, out=grad).mul_(chunk.spread(norm))


def cautious_sign(blend: Tensor, grad: Tensor) -> None:
    """Overwrite ``grad`` by ``sign(b)`` where it agrees with ``sign(g)``, by 0 elsewhere."""
    grad.sign_()
    blend.sign_()
    # sign(b) [sign(b) = sign(g)] is the rounded-down mean of two signs: (sb + sg) / 2, without +-1/2.
    grad.add_(blend).mul_(0.5).trunc_()
