"""One way to step and read any optimizer, whatever its class."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim import Optimizer

from .chunked_optimizer import ChunkedOptimizer


def step_optimizer(optimizer: Optimizer, loss: Tensor | float | None) -> None:
    """Take one step, handing the loss to the optimizers that read it.

    Args:
        optimizer: Any of the registry.
        loss: Mean loss of the whole step, all micro-batches included. A number costs no read of
            the device; a 0-dim tensor costs Emo one.
    """
    if isinstance(optimizer, ChunkedOptimizer):
        optimizer.step(loss=loss)
    else:
        optimizer.step()


def optimizer_signals(optimizer: Optimizer) -> dict[str, Tensor]:
    """Return the step's scalars of any optimizer, 0-dim; empty for those that have none."""
    return optimizer.signals() if isinstance(optimizer, ChunkedOptimizer) else {}


@contextmanager
def averaged_weights(optimizer: Optimizer) -> Iterator[None]:
    """Hold the weights to sample from or save; schedule-free trains on others than these.

    Training goes on from the same bits afterwards.
    """
    to_training, to_average = getattr(optimizer, "train", None), getattr(optimizer, "eval", None)
    if to_training is None or to_average is None:
        yield
        return
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    kept = [p.detach().clone() for p in parameters]
    to_average()
    try:
        yield
    finally:
        to_training()
        with torch.no_grad():  # its way back from the average rounds
            torch._foreach_copy_(parameters, kept)
