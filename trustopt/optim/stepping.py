"""One way to step and read any optimizer, whatever its class."""

from collections.abc import Iterator
from contextlib import contextmanager

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
    """Hold the weights to sample from or save; schedule-free trains on others than these."""
    switches = getattr(optimizer, "train", None), getattr(optimizer, "eval", None)
    to_training, to_average = switches
    if to_training is None or to_average is None:
        yield
        return
    to_average()
    try:
        yield
    finally:
        to_training()
