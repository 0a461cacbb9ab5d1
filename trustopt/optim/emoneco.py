"""EmoNeco: cautious Lion, softened while the loss moves moderately."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from .chunks import Chunk, Slot
from .emo import Step
from .emolynx import EmoLynx
from .scratch import Scratch

SLOTS = {"exp_avg": Slot("element")}
SOFT_FROM, SOFT_TO = 0.2, 0.5  # muooon/EmoNavi@b1da9a59:AMP-compatible/emoneco.py


class EmoNeco(EmoLynx):
    """Cautious Lion, softened while the loss moves moderately (after muooon's EmoNeco).

    As :class:`~.emolynx.EmoLynx`, with another direction in place of ``sign(b)``:

    - ``(|g| + eps) b / (1 + abs(b))`` with the norm over the whole tensor, while
      ``0.2 < |scalar| <= 0.5``; the published class fails there for want of a name;
    - ``sign(b)`` where it agrees with ``sign(g)``, and 0 elsewhere, otherwise.

    Args:
        params: Parameters or parameter groups; real, dense, of any shape.
        lr: Step size before the loss signal's factor.
        betas: Decay rates of the running averages, in [0, 1); None takes the version's own,
            (0.9, 0.99).
        eps: Added to the norm.
        weight_decay: Each step multiplies parameters by ``1 - lr * weight_decay``.
        use_shadow: Mix in a slow copy of the parameters while the loss moves fast.
        version: ``"3.0"``, the last there is of it.
        decoupled_weight_decay: Divide weight decay by the lr the group began with.
        stochastic_rounding: Round updates of bfloat16 parameters at random, without bias.

    State:
        ``exp_avg``, float32, 4 bytes a parameter; ``shadow`` if used.

    Raises:
        ValueError: If a hyperparameter is out of range.

    Source:
        muooon/EmoNavi@dc44b09e:AMP-compatible/emoneco.py.
    """

    default_betas: ClassVar = {"3.0": (0.9, 0.99)}

    def _update(self, group: dict[str, Any], params: list[Tensor], step: Step) -> None:
        soft = SOFT_FROM < abs(step.scalar) <= SOFT_TO
        for chunk in self.chunks(params, SLOTS):
            grad = chunk.gather(self.scratch)
            exp_avg = chunk["exp_avg"]
            blend = torch.lerp(
                exp_avg, grad, 1.0 - step.beta1, out=self.scratch.take("blend", chunk)
            )
            exp_avg.lerp_(grad, 1.0 - step.beta2)
            if soft:
                soft_sign(blend, grad, chunk, self.scratch, step.eps)
            else:
                cautious_sign(blend, grad)
            chunk.subtract(self.scratch, step=step.size, decay=step.decay)


def soft_sign(blend: Tensor, grad: Tensor, chunk: Chunk, scratch: Scratch, eps: float) -> None:
    """Overwrite ``grad`` by ``(|g|_2 + eps) * b / (1 + |b|)``, the norm over each whole tensor."""
    norms = tensor_norms(grad, chunk, eps)
    softness = torch.abs(blend, out=scratch.take("softness", chunk)).add_(1.0)
    torch.div(blend, softness, out=grad).mul_(chunk.spread(norms))


def tensor_norms(grad: Tensor, chunk: Chunk, eps: float) -> Tensor:
    """Return each tensor's L2 norm and ``eps``, ``(K, 1)``."""
    row_norms = torch.linalg.vector_norm(grad, dim=1, keepdim=True)
    return chunk.total(row_norms.square_()).sqrt_().add_(eps)


def cautious_sign(blend: Tensor, grad: Tensor) -> None:
    """Overwrite ``grad`` by ``sign(b)`` where it agrees with ``sign(g)``, by 0 elsewhere."""
    grad.sign_()
    blend.sign_()
    # The mean of two signs is 0 or +-1/2 where they differ; cutting off the half leaves 0.
    grad.add_(blend).mul_(0.5).trunc_()
