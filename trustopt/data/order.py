"""Who comes when: an endless sequence of same-bucket batches in which all pictures take turns."""

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
        check_batch_size(batch_size, len(training))
        if repeats < 1:
            raise ValueError(f"repeats must be at least 1, got {repeats}")
        self._entries = entries
        self._batch_size = batch_size
        self._generator = generator
        self._draws = [i for i in training for _ in range(entries[i].repeats * repeats)]
        self._regularisation = [i for i, entry in enumerate(entries) if entry.is_regularisation]
        # Only replaced as a whole, at the start of an epoch: so a state is taken in no time.
        self._picks = torch.empty(0, 2, dtype=torch.int64)
        self._turns = torch.zeros(len(entries), dtype=torch.int64)
        self._left_over = torch.empty(0, dtype=torch.int64)
        # Changed by every batch.
        self._cursor = 0
        self._waiting: dict[Hashable, list[Pick]] = {}
        self.epoch = 0

    @property
    def pictures_per_epoch(self) -> int:
        """Pictures an epoch, repeats and regularisation pictures counted."""
        return len(self._draws) * (2 if self._regularisation else 1)

    def next(self) -> PlannedBatch:
        """Return the next batch."""
        while True:
            if self._cursor == len(self._picks):
                self._start_epoch()
            pick = Pick(*self._picks[self._cursor].tolist())
            self._cursor += 1
            group = self._group(pick)
            queue = self._waiting.setdefault(group, [])
            queue.append(pick)
            if len(queue) == self._batch_size:
                del self._waiting[group]
                seed = torch.randint(2**62, (), generator=self._generator).item()
                return PlannedBatch(tuple(queue), int(seed))

    def state_dict(self) -> dict[str, Tensor]:
        """Return everything that decides the batches to come, as CPU tensors nobody changes."""
        waiting = [pick for queue in self._waiting.values() for pick in queue]
        return {
            "shape": torch.tensor(self._shape()),
            "position": torch.tensor([self.epoch, self._cursor]),
            "picks": self._picks,
            "turns": self._turns,
            "left_over": self._left_over,
            "waiting": torch.tensor(waiting, dtype=torch.int64).reshape(-1, 2),
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue where ``state_dict`` was taken, bit for bit.

        Raises:
            ValueError: If it was taken with other pictures, repeats or batch size.
        """
        saved, current = state["shape"].tolist(), self._shape()
        if saved != current:
            raise ValueError(
                "the saved data order is of {} images, {} an epoch, batch size {}; ".format(*saved)
                + "now there are {}, {} and {}: ".format(*current)
                + "resume with the same images and settings, or start anew"
            )
        self.epoch, self._cursor = state["position"].tolist()
        self._picks = state["picks"]
        self._turns = state["turns"]
        self._left_over = state["left_over"]
        self._waiting = {}
        for row in state["waiting"].tolist():
            pick = Pick(*row)
            self._waiting.setdefault(self._group(pick), []).append(pick)
        self._generator.set_state(state["generator"])

    def _shape(self) -> list[int]:
        return [len(self._entries), self.pictures_per_epoch, self._batch_size]

    def _group(self, pick: Pick) -> Hashable:
        entry = self._entries[pick.sample]
        return entry.is_regularisation, entry.groups[pick.view]

    def _start_epoch(self) -> None:
        draws = self._draws + self._draw_regularisation()
        turns = self._turns.tolist()
        picks = []
        for index in torch.randperm(len(draws), generator=self._generator).tolist():
            sample = draws[index]
            # Starting at another view each keeps every epoch an even mix of all views.
            view = (turns[sample] + sample) % len(self._entries[sample].groups)
            turns[sample] += 1
            picks.append(Pick(sample, view))
        self._picks = torch.tensor(picks)
        self._turns = torch.tensor(turns)
        self._cursor = 0
        self.epoch += 1

    def _draw_regularisation(self) -> list[int]:
        """Return as many regularisation pictures as there are others, going on where it stopped."""
        queue, pictures = self._left_over.tolist(), self._regularisation
        while pictures and len(queue) < len(self._draws):
            order = torch.randperm(len(pictures), generator=self._generator).tolist()
            queue.extend(pictures[index] for index in order)
        self._left_over = torch.tensor(queue[len(self._draws) :], dtype=torch.int64)
        return queue[: len(self._draws)]


def check_batch_size(batch_size: int, num_images: int, num_held_out: int = 0) -> None:
    """Refuse a batch larger than the set.

    Raises:
        ValueError: If the batch is below 1 or above ``num_images``; it names the largest possible.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if batch_size > num_images:
        held_out = f" ({num_held_out} more are held out for validation)" if num_held_out else ""
        raise ValueError(
            f"batch_size {batch_size} needs as many images, and there are {num_images}{held_out}: "
            f"lower batch_size to {max(1, num_images)} or add images"
        )
