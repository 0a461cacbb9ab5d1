"""The learning rate of each step: a linear warm-up, then one of four shapes."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol

NUM_RESTARTS = 3
"""Cosine arcs of ``cosine_with_restarts``, as community SDXL recipes use it."""


class Schedule(Protocol):
    """What a schedule is made of: a ``ResolvedPlan`` or a ``JobConfig``."""

    @property
    def lr(self) -> float:
        """Learning rate at multiplier 1."""
        ...

    @property
    def steps(self) -> int:
        """Optimizer steps of the run, warm-up included."""
        ...

    @property
    def scheduler(self) -> str:
        """A key of ``SHAPES``."""
        ...

    @property
    def warmup_steps(self) -> int:
        """Steps over which the learning rate rises; 0 starts at full."""
        ...


def _cosine(progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def _cosine_with_restarts(progress: float) -> float:
    return _cosine(progress * NUM_RESTARTS % 1.0) if progress < 1.0 else 0.0


SHAPES: Mapping[str, Callable[[float], float]] = MappingProxyType(
    {
        "constant": lambda progress: 1.0,
        "linear": lambda progress: 1.0 - progress,
        "cosine": _cosine,
        "cosine_with_restarts": _cosine_with_restarts,
    }
)
"""Progress after the warm-up, in [0, 1], to a multiplier of the learning rate, in [0, 1]."""


def lr_multiplier(step: int, schedule: Schedule) -> float:
    """Return what the learning rate is multiplied by at a step, in [0, 1].

    Warm-up: ``(step + 1) / warmup_steps``, so that no step is lost at 0 and the last one is full.
    Then the shape over ``(step - warmup_steps) / (steps - warmup_steps)``: 1 at first, and above 0
    up to the last step. From ``steps`` on (training continued) the shape's end holds.

    Args:
        step: Optimizer step, from 0.
        schedule: Steps, warm-up and shape.

    Raises:
        ValueError: If the step is negative or the scheduler unknown.
    """
    if step < 0:
        raise ValueError(f"step must be at least 0, got {step}")
    if schedule.scheduler not in SHAPES:
        raise ValueError(
            f"scheduler must be one of {', '.join(SHAPES)}, got {schedule.scheduler!r}"
        )
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    span = max(1, schedule.steps - schedule.warmup_steps)
    progress = min(1.0, (step - schedule.warmup_steps) / span)
    return SHAPES[schedule.scheduler](progress)


def lr_at(step: int, schedule: Schedule) -> float:
    """Return the learning rate of a step: the schedule's lr times ``lr_multiplier``."""
    return schedule.lr * lr_multiplier(step, schedule)
