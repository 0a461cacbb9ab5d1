"""EmoFact: Adafactor's row and column scaling, driven by the loss."""

import torch
from torch import Tensor

from .chunks import Chunk, Scratch, Slot
from .emo import SHADOW, EmoOptimizer, Step
from .emonavi import adam_update

SLOTS = {
    "exp_avg_r": Slot("row"),
    "exp_avg_c": Slot("column"),
    "exp_avg": Slot("element"),
    "exp_avg_sq": Slot("element"),
}


class EmoFact(EmoOptimizer):
    slots = SLOTS | SHADOW
    default_betas = {"3.0": (0.9, 0.999), "3.6": (0.9, 0.995)}
    uniform = True

    def _update(self, group: dict, params: list[Tensor], step: Step) -> None:
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
    scratch = optimizer._scratch
    slots = {names[0]: Slot("row"), names[1]: Slot("column")}
    for chunk in optimizer._chunks(params, slots, uniform=True):
        chunk.gather(scratch)
        normalize_by_factors(chunk, scratch, step, names)
        chunk.subtract(scratch, step=step.size, decay=step.decay)


def normalize_by_factors(
    chunk: Chunk, scratch: Scratch, step: Step, names: tuple[str, str]
) -> None:
    """Replace the gathered gradients of a uniform chunk by their factored normalisation."""
    num, (rows, *rest) = len(chunk.params), chunk.params[0].shape
    columns = rest[0] if len(rest) == 1 else torch.Size(rest).numel()
    grads = chunk.stacked(scratch.take("update", chunk)).view(num, rows, columns)

    row, column = (chunk[name].view(num, -1) for name in names)
    row_rms = torch.linalg.vector_norm(grads, dim=2).square_().div_(columns).add_(step.eps).sqrt_()
    row.lerp_(row_rms, 1.0 - step.beta1)
    column_rms = torch.linalg.vector_norm(grads, dim=1).square_().div_(rows).add_(step.eps).sqrt_()
    column.lerp_(column_rms, 1.0 - step.beta1)

    size = chunk.stacked(scratch.take("size", chunk)).view(num, rows, columns)
    torch.mul(row.sqrt()[:, :, None], column.sqrt()[:, None, :], out=size)
    grads.div_(size.add_(step.eps))


def sign_update(optimizer: EmoOptimizer, params: list[Tensor], step: Step) -> None:
    """v3.6's rule: the sign of the gradient. Its factors never reach the step, so none are kept."""
    scratch = optimizer._scratch
    for chunk in optimizer._chunks(params, {}, uniform=True):
        chunk.gather(scratch).sign_()
        chunk.subtract(scratch, step=step.size, decay=step.decay)
