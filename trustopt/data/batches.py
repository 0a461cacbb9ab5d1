"""Batches as the training loop takes them: latents, prompts, geometry, masks and weights."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..host import Geometry, Prompt
from .order import BatchOrder, PlannedBatch


@dataclass(frozen=True, kw_only=True)
class Batch:
    """B pictures of one bucket, on the CPU."""

    latents: Tensor
    """``(B, C, h, w)`` float32, drawn from the VAE's posterior."""
    prompts: Sequence[Prompt]
    """B encoded captions; empty if captions are not encoded beforehand."""
    captions: Sequence[str]
    """The B texts, after shuffling and dropout."""
    geometry: Sequence[Geometry]
    masks: Tensor | None
    """``(B, 1, h, w)`` float32 in [0, 1]; None if no picture of the batch has one."""
    loss_weights: Tensor
    """``(B,)`` float32."""
    indices: Sequence[int]
    """Places of the pictures in the training set's samples."""
    is_regularisation: bool
    """All B pictures are: their target is the base model's own output."""


class BatchStream:
    """Endless iterator over batches that can be saved and continued in the middle of an epoch.

    Args:
        order: Decides the pictures.
        assemble: Turns pictures and a seed into a batch.
        measure: Returns the shape ``(B, C, h, w)`` of the latents ``assemble`` would give.
    """

    def __init__(
        self,
        order: BatchOrder,
        assemble: Callable[[PlannedBatch], Batch],
        measure: Callable[[PlannedBatch], torch.Size],
    ) -> None:
        self._order = order
        self._assemble = assemble
        self._measure = measure

    @property
    def epoch(self) -> int:
        """Epochs begun so far."""
        return self._order.epoch

    def __iter__(self) -> "BatchStream":
        return self

    def __next__(self) -> Batch:
        return self._assemble(self._order.next())

    def pass_over(self) -> torch.Size:
        """Leave the next batch to another process, unread, and return its latents' shape."""
        return self._measure(self._order.next())

    def state_dict(self) -> dict[str, Tensor]:
        """Return everything that decides the batches to come, as CPU tensors."""
        return self._order.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue where ``state_dict`` was taken, bit for bit.

        Raises:
            ValueError: If it was taken with other pictures, repeats or batch size.
        """
        self._order.load_state_dict(state)


def stack_masks(masks: Sequence[Tensor | None], like: Tensor) -> Tensor | None:
    """Return masks ``(B, 1, h, w)``, ones for pictures without; None if none has any.

    Args:
        masks: B masks ``(1, h, w)`` or None.
        like: Latents ``(B, C, h, w)``.
    """
    if all(mask is None for mask in masks):
        return None
    whole = torch.ones(1, *like.shape[-2:])
    return torch.stack([whole if mask is None else mask for mask in masks])
