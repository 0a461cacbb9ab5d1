"""What a run tells about itself in the header of its LoRA file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..config import JobConfig
from ..host import Family, Prediction


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """What a finished (or interrupted) run tells about itself."""

    job: JobConfig
    family: Family
    base_model: str
    """File name of the base model."""
    base_model_hash: str = ""
    """SHA-256 of the whole base checkpoint, 64 hex digits; empty if unknown."""
    base_model_legacy_hash: str = ""
    """First 8 hex digits of the SHA-256 over its bytes 0x100000 to 0x110000."""
    vae: str = ""
    prediction: Prediction = "eps"
    zero_terminal_snr: bool = False
    mixed_precision: str = "no"
    """Autocast dtype: no, bf16, fp16."""
    checkpointing: bool = False
    optimizer: str = ""
    """As ``module.Class(lr=…)``; empty writes the job's optimizer name."""
    started_at: float | None = None
    """Unix time. None leaves out all times, so that equal runs write equal files."""
    finished_at: float | None = None
    processes: int = 1
    """Processes that trained side by side."""
    steps: int = 0
    """Optimizer steps done."""
    epoch: int = 0
    num_images: int = 0
    """Pictures an epoch, repeats counted."""
    num_validation_images: int = 0
    num_batches: int = 0
    """Batches an epoch."""
    tag_frequency: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Folder -> tag -> pictures that have it."""
    folders: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Folder -> (repeats, pictures)."""
    buckets: Mapping[tuple[int, int], int] = field(default_factory=dict)
    """(width, height) pixels -> pictures, repeats counted."""
    mean_aspect_error: float = 0.0
    trigger: str = ""
    title: str = ""
    author: str = ""
    description: str = ""
    license: str = ""
    comment: str = ""
    plan: Mapping[str, Any] = field(default_factory=dict)
    """The preset's values and their reasons."""
    signals: Mapping[str, Any] = field(default_factory=dict)
    """Summary of the optimizer's signals."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Program -> version."""
    workflow: Any = None
    """ComfyUI's workflow, as JSON text or plain values; ``prompt`` likewise."""
    prompt: Any = None
