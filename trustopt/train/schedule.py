"""The learning rate of each step: a linear warm-up, then one of four shapes."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from ..plan import ResolvedPlan

NUM_RESTARTS = 3
"""Cosine arcs of ``cosine_with_restarts``, as community SDXL recipes use it."""


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


def lr_factor(step: int, *, steps: int, warmup_steps: int, scheduler: str) -> float:
    """Return what the learning rate is multiplied by at a step, in [0, 1].

    Warm-up: ``(step + 1) / warmup_steps``, so that no step is lost at 0 and the last one is full.
    Then the shape over ``(step - warmup_steps) / (steps - warmup_steps)``: 1 at first, and above 0
    up to the last step. From ``steps`` on (training continued) the shape's end holds.

    Args:
        step: Optimizer step, from 0.
        steps: Optimizer steps of the run, warm-up included.
        warmup_steps: Steps over which the learning rate rises; 0 starts at full.
        scheduler: A key of ``SHAPES``.

    Raises:
        ValueError: If the step is negative or the scheduler unknown.
    """
    if step < 0:
        raise ValueError(f"step must be at least 0, got {step}")
    if scheduler not in SHAPES:
        raise ValueError(f"scheduler must be one of {', '.join(SHAPES)}, got {scheduler!r}")
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    return SHAPES[scheduler](min(1.0, progress))


def lr_at(step: int, resolved: ResolvedPlan) -> float:
    """Return the learning rate of a step (from 0): the plan's lr times ``lr_factor``."""
    return resolved.lr * lr_factor(
        step,
        steps=resolved.steps,
        warmup_steps=resolved.warmup_steps,
        scheduler=resolved.scheduler,
    )
