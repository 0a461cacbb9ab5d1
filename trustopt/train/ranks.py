"""How several processes train one LoRA together; one process alone is the simplest case.

Every process ("rank") holds the whole model and the whole LoRA, and follows the whole run: it draws
the batches, noise levels and noise of all. A step's micro-batches are dealt out in turn; then
gradients and losses are added up, once, and all take the same optimizer step. So a run is the same
whether one process takes a step's micro-batches one after the other or several side by side.

``Ranks`` is one process alone, in which nothing is exchanged; ``processes.py`` has several.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


class StopTraining(Exception):  # noqa: N818  (a request, not an error)
    """Raised by ``on_step`` to end training now and keep what was trained."""


class PeerError(RuntimeError):
    """Another process of the run failed, so that this one cannot go on.

    Attributes:
        is_echo: Whether another process says the same to the user.
    """

    def __init__(self, message: str, *, is_echo: bool = False) -> None:
        super().__init__(message)
        self.is_echo = is_echo


class Ranks:
    """One process that trains alone: everything is its own, and it waits for nobody."""

    rank = 0
    """This process, from 0; 0 alone writes and speaks."""
    size = 1
    """Number of processes."""
    local_rank = 0
    """This process among those of its machine: which of the machine's GPUs is its own."""

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes files and speaks to the user."""
        return self.rank == 0

    def takes(self, turn: int) -> bool:
        """Return whether the ``turn``-th piece of shared work, from 0, is this process's."""
        return turn % self.size == self.rank

    @contextmanager
    def together(self) -> Iterator[None]:
        """Do work that all processes do or wait for; nobody leaves the block before the others.

        Raises:
            StopTraining: In all processes, if one raised it.
            PeerError: If the block, or what came before it, failed in another process; that one
                raises its own error.
        """
        yield

    def add_up(self, parameters: "Sequence[nn.Parameter]", *others: "Tensor") -> None:
        """Add up gradients, and other tensors, over all processes, in place.

        A parameter that has a gradient in one process has one in all of them afterwards.

        Args:
            parameters: The same in all processes, in one order.
            others: Tensors of the same shapes and dtypes in all processes.
        """

    def from_first(self, find: Callable[[], str]) -> str:
        """Let the first process find something out, and return that in all of them.

        Raises:
            PeerError: As ``together`` does.
        """
        return find()
