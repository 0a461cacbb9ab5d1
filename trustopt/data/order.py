"""Who comes when: an endless sequence of same-bucket batches in which all pictures take turns."""

from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Pick(NamedTuple):
    """One picture in one of its placements."""

    sample: int
    view: int


@dataclass(frozen=True)
class Entry:
    """What the order needs to know of one picture."""

    groups: tuple[Hashable, ...]
    """For each view what it must share with its batch: the bucket."""
    repeats: int = 1
    is_regularisation: bool = False


@dataclass(frozen=True)
class PlannedBatch:
    """The pictures of one batch and the seed of everything random in it."""

    picks: tuple[Pick, ...]
    seed: int


class BatchOrder:
    """Endless batches of ``batch_size`` pictures of one bucket.

    An epoch lists every picture ``repeats`` times in random order. Pictures wait in their bucket
    until it is full, then leave as a batch; those waiting at the end of an epoch go on waiting in
    the next. So every batch is full, no picture is lost or preferred, and a bucket with fewer
    pictures than the batch gives one every few epochs.

    The views of a picture (resolutions, crops, mirrored) take turns. An epoch has as many
    regularisation pictures as others, taking turns as well; they never share a batch with others.

    Args:
        entries: The pictures.
        batch_size: Pictures a batch.
        repeats: On top of each picture's own.
        generator: CPU generator, the only source of order and seeds.

    Raises:
        ValueError: If there are fewer pictures than ``batch_size``.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        batch_size: int,
        *,
        repeats: int,
        generator: torch.Generator,
    ) -> None:
        training = [i for i, entry in enumerate(entries) if not entry.is_regularisation]
        if batch_size < 1 or repeats < 1:
            raise ValueError(
                f"batch_size and repeats must be at least 1, got {batch_size} and {repeats}"
            )
        if len(training) < batch_size:
            raise ValueError(
                f"batch_size {batch_size} needs at least {batch_size} images, the set has "
                f"{len(training)}: the largest batch_size possible is {len(training)}"
            )
        self._entries = entries
        self._batch_size = batch_size
        self._generator = generator
        self._draws = [i for i in training for _ in range(entries[i].repeats * repeats)]
        self._regularisation = [i for i, entry in enumerate(entries) if entry.is_regularisation]
        self._turns = [0] * len(entries)  # times each picture was drawn; picks its next view
        self._pending: deque[Pick] = deque()
        self._pending_regularisation: deque[int] = deque()
        self._waiting: dict[Hashable, list[Pick]] = {}
        self.epoch = 0

    @property
    def pictures_per_epoch(self) -> int:
        """Pictures an epoch, repeats and regularisation pictures counted."""
        return len(self._draws) * (2 if self._regularisation else 1)

    def next(self) -> PlannedBatch:
        """Return the next batch."""
        while True:
            if not self._pending:
                self._start_epoch()
            pick = self._pending.popleft()
            group = self._group(pick)
            queue = self._waiting.setdefault(group, [])
            queue.append(pick)
            if len(queue) == self._batch_size:
                del self._waiting[group]
                seed = torch.randint(2**62, (), generator=self._generator).item()
                return PlannedBatch(tuple(queue), int(seed))

    def state_dict(self) -> dict[str, Tensor]:
        """Return everything that decides the batches to come, as CPU tensors."""
        waiting = [pick for queue in self._waiting.values() for pick in queue]
        return {
            "shape": torch.tensor([len(self._entries), len(self._draws), self._batch_size]),
            "epoch": torch.tensor([self.epoch]),
            "turns": torch.tensor(self._turns),
            "pending": torch.tensor(list(self._pending), dtype=torch.int64).reshape(-1, 2),
            "pending_regularisation": torch.tensor(
                list(self._pending_regularisation), dtype=torch.int64
            ),
            "waiting": torch.tensor(waiting, dtype=torch.int64).reshape(-1, 2),
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue where ``state_dict`` was taken, bit for bit.

        Raises:
            ValueError: If it was taken with other pictures, repeats or batch size.
        """
        shape = [len(self._entries), len(self._draws), self._batch_size]
        if state["shape"].tolist() != shape:
            images, draws, batch_size = state["shape"].tolist()
            raise ValueError(
                f"the saved data order is of {images} images, {draws} an epoch, batch size "
                f"{batch_size}; now there are {shape[0]}, {shape[1]} and {shape[2]}: "
                "resume with the same images and settings, or start anew"
            )
        self.epoch = int(state["epoch"].item())
        self._turns = state["turns"].tolist()
        self._pending = deque(Pick(*row) for row in state["pending"].tolist())
        self._pending_regularisation = deque(state["pending_regularisation"].tolist())
        self._waiting = {}
        for row in state["waiting"].tolist():
            pick = Pick(*row)
            self._waiting.setdefault(self._group(pick), []).append(pick)
        self._generator.set_state(state["generator"])

    def _group(self, pick: Pick) -> Hashable:
        entry = self._entries[pick.sample]
        return entry.is_regularisation, entry.groups[pick.view]

    def _start_epoch(self) -> None:
        draws = self._draws + self._draw_regularisation()
        for index in torch.randperm(len(draws), generator=self._generator).tolist():
            sample = draws[index]
            # Starting at another view each keeps every epoch an even mix of all views.
            view = (self._turns[sample] + sample) % len(self._entries[sample].groups)
            self._turns[sample] += 1
            self._pending.append(Pick(sample, view))
        self.epoch += 1

    def _draw_regularisation(self) -> list[int]:
        queue, pictures = self._pending_regularisation, self._regularisation
        while pictures and len(queue) < len(self._draws):
            order = torch.randperm(len(pictures), generator=self._generator).tolist()
            queue.extend(pictures[index] for index in order)
        return [queue.popleft() for _ in self._draws] if pictures else []
