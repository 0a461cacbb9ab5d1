"""Several processes that train one LoRA, over ``torch.distributed``: see ``ranks.py``.

What decides how the run goes on (whether all got through, which folder) travels between CPUs, over
gloo: that notices at once when a process dies, and waits for no device. Gradients travel between
devices, over NCCL where there is one. Nothing is pickled.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import Tensor, nn
from torch import distributed as dist

from .ranks import PeerError, Ranks, StopTraining

PATIENCE = timedelta(hours=1)
"""How long a process waits for another that is alive: the first may be drawing pictures."""

THROUGH, STOP, FAILED = range(3)
"""How a block that all do together ended in one process."""

AT_END = 8
"""Added where it was the last one: the process only waits for the others to end."""

LENGTH = 512
"""Bytes in which a process tells the others so: one for how, then why."""


@contextmanager
def launched_processes() -> Iterator[Ranks]:
    """Join the processes that a launcher started, for the time of a ``with`` block.

    The launcher (torchrun, accelerate, or one that sets the same variables) says who is who in the
    environment: RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT.

    Raises:
        ValueError: If the processes cannot find each other.
    """
    nccl = torch.cuda.is_available() and dist.is_nccl_available()
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if nccl else "gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"the processes cannot find each other ({str(error).splitlines()[0]}): start them "
            "with torchrun or accelerate launch"
        ) from error
    try:
        ranks = Processes(local_rank=int(os.environ.get("LOCAL_RANK", "0")))
        with ranks.to_the_end():
            yield ranks
    finally:
        dist.destroy_process_group()


class Processes(Ranks):
    """This process among several, over torch's default process group.

    Args:
        local_rank: This process among those of its machine.
    """

    def __init__(self, *, local_rank: int) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.local_rank = local_rank
        self._shared: BaseException | None = None
        """The newest error that the others have heard of."""
        self._cut_off = False
        """Whether the others cannot be reached any more."""

    @contextmanager
    def together(self) -> Iterator[None]:
        """Do work that all processes do; see ``Ranks.together``."""
        try:
            yield
        except BaseException as error:
            if error is not self._shared:  # a block within this one told the others
                self._raise_for(error, self._exchange(spoken(error)))
            raise
        self._raise_for(None, self._exchange(spoken(None)))

    @contextmanager
    def to_the_end(self) -> Iterator[None]:
        """Leave the block when all processes do: a launcher ends all as soon as one has failed.

        Raises:
            PeerError: If another process failed; also in place of an error that a process before
                this one has, too.
        """
        try:
            yield
        except BaseException as error:
            words = spoken(error, at_end=True)
            if not self._cut_off and words in self._wait_at_end(words)[: self.rank]:
                raise PeerError(str(error), is_echo=True) from error
            raise
        self._raise_for(None, self._wait_at_end(spoken(None, at_end=True)))

    def _wait_at_end(self, words: bytes) -> list[bytes]:
        """Say the same until all are at their end, and return how each has come to it.

        Those that are not hear it at the end of the block they are in.
        """
        heard: list[bytes] = []
        while not heard or any(other[0] & AT_END == 0 for other in heard):
            heard = self._exchange(words)
        return heard

    def add_up(self, parameters: Sequence[nn.Parameter], *others: Tensor) -> None:
        """Add up gradients, and other tensors, over all processes; see ``Ranks.add_up``."""
        has_gradient = torch.tensor([p.grad is not None for p in parameters], dtype=torch.uint8)
        with self._reaching_others():
            dist.all_reduce(has_gradient, dist.ReduceOp.MAX)
        tensors = list(others)
        for parameter, has in zip(parameters, has_gradient.tolist(), strict=True):
            if has and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if parameter.grad is not None:
                tensors.append(parameter.grad)
        # One tensor, one exchange: a LoRA is a thousand small ones.
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with self._reaching_others():
            dist.all_reduce(flat)
        sums = flat.split([tensor.numel() for tensor in tensors])
        for tensor, total in zip(tensors, sums, strict=True):
            tensor.copy_(total.view_as(tensor))

    def from_first(self, find: Callable[[], str]) -> str:
        """Return in all processes what the first finds; see ``Ranks.from_first``."""
        with self.together():
            data = find().encode() if self.is_first else b""
        length = torch.tensor(len(data))
        with self._reaching_others():
            dist.broadcast(length, 0)
            letters = torch.tensor(list(data), dtype=torch.uint8).resize_(int(length))
            dist.broadcast(letters, 0)
        return bytes(letters.tolist()).decode()

    def _exchange(self, words: bytes) -> list[bytes]:
        """Tell the others how a block ended here, and return how it did in each process."""
        mine = torch.tensor(list(words), dtype=torch.uint8)
        heard = [torch.empty_like(mine) for _ in range(self.size)]
        with self._reaching_others():
            dist.all_gather(heard, mine)
        return [bytes(other.tolist()) for other in heard]

    def _raise_for(self, error: BaseException | None, heard: list[bytes]) -> None:
        """Raise what this process must leave a block for, unless that is its own error."""
        kinds = [words[0] & ~AT_END for words in heard]
        reason = error
        if FAILED in kinds and kinds[self.rank] != FAILED:
            failed = kinds.index(FAILED)
            reason = PeerError(
                f"process {failed + 1} of {self.size} failed: {text(heard[failed])}",
                is_echo=not self.is_first,
            )
        elif STOP in kinds and error is None:
            reason = StopTraining(text(heard[kinds.index(STOP)]))
        self._shared = reason
        if reason is not None and reason is not error:
            raise reason from error

    @contextmanager
    def _reaching_others(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            self._cut_off = True
            raise PeerError(
                "another process of the run ended without a word (killed, or its machine is gone)"
            ) from error


def spoken(error: BaseException | None, *, at_end: bool = False) -> bytes:
    """Return in ``LENGTH`` bytes how a block, or all of it, ended in a process."""
    kind, why = THROUGH, ""
    if error is not None:
        stops = isinstance(error, StopTraining)
        kind, why = (STOP, str(error)) if stops else (FAILED, f"{type(error).__name__}: {error}")
    words = bytes([kind | (AT_END if at_end else 0)]) + why.encode()
    return words[:LENGTH].ljust(LENGTH, b"\0")


def text(words: bytes) -> str:
    """Return why, of what ``spoken`` returned."""
    return words[1:].rstrip(b"\0").decode(errors="replace")
