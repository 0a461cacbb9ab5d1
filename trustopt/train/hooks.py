"""How a face (node or command line) follows a run."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..signals import Recorder
from .loop import Run, StepReport


def ignore(*_: Any) -> None:
    """Stand in for a hook nobody set."""


def no_wishes() -> Collection[str]:
    """Stand in for a face that never wishes for anything."""
    return ()


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """Callables a face may set; all are called in the training thread."""

    on_stage: Callable[[str, int, int], None] = ignore
    """(what, done, total) while pictures and captions are encoded."""
    on_report: Callable[[str], None] = ignore
    """Text the user should see: buckets, memory plan, warnings, should_stop."""
    on_encoded: Callable[[], None] = ignore
    """Once all pictures and captions are encoded, while the text encoders are at hand."""
    on_start: Callable[[Run, Path], None] = ignore
    """Once before step 1 (or the first resumed step), with the run's folder."""
    on_step: Callable[[StepReport, Recorder], None] = ignore
    """After each step; raise StopTraining to end now and keep what was trained."""
    on_sample: Callable[[Run], None] = ignore
    """Inside the session: before step 1, every ``sample_every`` steps, at the end, on wish.

    An exception costs the pictures, not the training: see ``on_sample_failed``."""
    on_sample_failed: Callable[[int, Exception], None] = ignore
    """The pictures of a step could not be made; ``on_report`` was told, and training goes on."""
    on_saved: Callable[[int, Path], None] = ignore
    """After each saved state, with its folder."""
    on_copied: Callable[[int, Path], None] = ignore
    """After the user's wish to save, with the LoRA file as it was at that step."""
    wishes: Callable[[], Collection[str]] = no_wishes
    """After each step: what the user asks for now, ``save`` or ``sample``; each wish once."""
