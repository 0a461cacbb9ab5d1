"""EmoFact: Adafactor's row and column scaling, driven by the loss."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from .chunks import Chunk, Slot
from .emo import SHADOW, EmoOptimizer, Step
from .emonavi import SLOTS as ADAM_SLOTS
from .emonavi import adam_update
from .scratch import Scratch

SLOTS = {
    "exp_avg_r": Slot("row"),
    "exp_avg_c": Slot("column"),
    **ADAM_SLOTS,
}


class EmoFact(EmoOptimizer):
    """Adafactor-like scaling by rows and columns, driven by the loss (after muooon's EmoFact).

    With running averages ``R`` of the rows' sizes ``sqrt(mean(g^2) + eps)``, ``C`` of the columns',
    and the loss signal's factor ``d``::

        p = (1 - lr weight_decay) p - lr d g / (sqrt(R C) + eps)

    Vectors and scalars step as EmoNavi's. There is no momentum. In v3.6 the published rule reduces
    to ``sign(g)`` for every tensor, without any state, and is computed so.

    Args:
        params: Parameters or parameter groups; real, dense, of any shape.
        lr: Step size before the loss signal's factor.
        betas: Decay rates of the running averages, in [0, 1); None takes the version's own,
            (0.9, 0.999) or (0.9, 0.995).
        eps: Added to denominators and under the roots, where it is a floor of 1e-4.
        weight_decay: Each step multiplies parameters by ``1 - lr * weight_decay``.
        use_shadow: Mix in a slow copy of the parameters while the loss moves fast.
        version: ``"3.0"`` or ``"3.6"``.
        stochastic_rounding: Round updates of bfloat16 parameters at random, without bias.

    State:
        Matrices: ``exp_avg_r`` and ``exp_avg_c``; vectors: ``exp_avg``, ``exp_avg_sq``; float32.
        About 0.25 bytes a parameter on a LoRA; none in v3.6. ``shadow`` if used.

    Raises:
        ValueError: If a hyperparameter is out of range.

    Source:
        muooon/EmoNavi@325033c0:AMP-compatible/emofact.py (v3.0),
        @b1767a99:optimizer/emofact.py (v3.6).
    """

    slots: ClassVar = SLOTS | SHADOW
    default_betas: ClassVar = {"3.0": (0.9, 0.999), "3.6": (0.9, 0.995)}

    def _update(self, group: dict[str, Any], params: list[Tensor], step: Step) -> None:
        if self.version == "3.6":
            sign_update(self, params, step)
            return
        matrices, vectors = split_by_dim(params)
        if matrices:
            factored_update(self, matrices, step)
        if vectors:
            adam_update(self, vectors, step)


def split_by_dim(params: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Tensors of two and more dimensions, and the rest."""
    return [p for p in params if p.dim() >= 2], [p for p in params if p.dim() < 2]


def factored_update(
    optimizer: EmoOptimizer,
    params: list[Tensor],
    step: Step,
    names: tuple[str, str] = ("exp_avg_r", "exp_avg_c"),
) -> None:
    """Divide the gradient by the geometric mean of its row's and its column's running size."""
    for chunk in optimizer.chunks(params, factor_slots(names)):
        chunk.gather(optimizer.scratch)
        divide_by_factors(chunk, optimizer.scratch, step, names)
        chunk.subtract(optimizer.scratch, step=step.size, decay=step.decay)


def factor_slots(names: tuple[str, str]) -> dict[str, Slot]:
    """The state of :func:`divide_by_factors` under its two names."""
    return {names[0]: Slot("row"), names[1]: Slot("column")}


def divide_by_factors(chunk: Chunk, scratch: Scratch, step: Step, names: tuple[str, str]) -> None:
    """Replace the gathered gradients of matrices by ``g / (sqrt(R C) + eps)``.

    ``R`` and ``C`` are running averages of ``sqrt(mean(g^2) + eps)`` over the rows and columns.
    Upstream decays both by the first beta.
    """
    update, size = scratch.take("update", chunk), scratch.take("size", chunk)
    torch.mul(update, update, out=size)
    batches = scratch.stacks("size", chunk)
    for average, dim in ((chunk[names[0]], 2), (chunk[names[1]], 1)):
        means = torch.cat([batch.mean(dim).view(-1) for batch in batches])
        average.lerp_(means.add_(step.eps).sqrt_(), 1.0 - step.beta1)
    rows = chunk.stack_factors(chunk[names[0]].sqrt(), "row")
    columns = chunk.stack_factors(chunk[names[1]].sqrt(), "column")
    for batch, row, column in zip(batches, rows, columns, strict=True):
        torch.mul(row, column, out=batch)
    update.div_(size.add_(step.eps))


def sign_update(optimizer: EmoOptimizer, params: list[Tensor], step: Step) -> None:
    """v3.6's rule: the sign of the gradient. Its factors never reach the step, so none are kept."""
    for chunk in optimizer.chunks(params, {}):
        chunk.gather(optimizer.scratch).sign_()
        chunk.subtract(optimizer.scratch, step=step.size, decay=step.decay)
