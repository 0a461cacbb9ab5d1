"""A job with all that is around it, and what it leaves behind."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..adapters import SaveReport
from ..config import JobConfig
from ..data import ImageSet
from ..host import Host
from ..signals import Signals
from .folders import Folders, RunFolder
from .hooks import Hooks
from .preflight import MemoryPlan
from .ranks import Ranks


@dataclass(kw_only=True)
class Job:
    """A job with everything it needs around it."""

    config: JobConfig
    host: Host
    images: ImageSet
    folders: Folders
    hooks: Hooks = field(default_factory=Hooks)
    notes: Mapping[str, Any] = field(default_factory=dict)
    """More for the LoRA's metadata: fields of ``TrainingRecord`` such as plan and workflow."""
    private: bool = False
    """Leave captions, folder names and the workflow out of the LoRA's metadata."""
    start_from: Path | None = None
    """A LoRA file to go on from, with its algorithm, layers and ranks; a new run all the same."""
    resume: bool = False
    """Go on with the newest run of this name, if one has a saved state."""
    anyway: bool = False
    """Resume although model, data, batch size or seed differ from the saved run's."""
    ranks: Ranks = field(default_factory=Ranks)
    """The processes that train it; one unless a launcher started several."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run leaves behind."""

    status: Literal["finished", "stopped", "faulty"]
    """``faulty``: the file is there, but ``report`` says what is wrong with it."""
    lora: Path
    """The saved file."""
    report: SaveReport
    """What re-reading the file showed."""
    folder: RunFolder
    signals: Signals
    steps: int
    skipped: int
    """Steps left out because loss or gradient was not finite."""
    seconds: float
    memory: MemoryPlan
    """What was planned before step 1."""
    grown: int | None
    """Bytes the steps really added on the device, at most; ``memory.growth`` is the estimate."""


def fingerprint_of(job: Job) -> dict[str, Any]:
    """Return what must be the same for a resume: model, adapter, optimizer, data, seed.

    Whether one process or several accumulate a step's batches makes no difference.
    """
    config = job.config
    return {
        "model": dict(job.host.identity()),
        "data": {
            "pictures": job.images.fingerprint(),
            "number of pictures": len(job.images.samples),
            **asdict(config.data),
        },
        "adapter": asdict(config.adapter),
        "optimizer": config.optimizer.name,
        "seed": config.seed,
        "batch": [config.batch_size, config.accumulation * job.ranks.size, config.repeats],
    }


def describe(result: RunResult) -> dict[str, Any]:
    """Return ``result.json``'s content."""
    return {
        "status": result.status,
        "step": result.steps,
        "skipped": result.skipped,
        "seconds": round(result.seconds, 3),
        "lora": result.lora.name,
        "check": result.report.summary(),
        "memory": {**result.memory.to_dict(), "grown": result.grown},
        "sshs_model_hash": result.report.model_hash,
        "time": time.time(),
    }
