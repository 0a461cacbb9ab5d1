"""The run's LoRA as a file: written from the averaged weights, then read back and compared."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..adapters import read_lora, save_lora
from ..data import TrainingSet
from ..optim import averaged_weights
from .loop import Run

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class LoraReport:
    """What reading a saved LoRA back showed."""

    num_layers: int
    missing: tuple[str, ...]
    norm: float


@dataclass(frozen=True, kw_only=True)
class LoraWriter:
    """Writes a run's LoRA in kohya's format, which loads everywhere."""

    run: Run
    dataset: TrainingSet
    notes: Mapping[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> Path:
        """Write the LoRA as it is now, replacing this run's earlier one.

        Raises:
            OSError: If it cannot be written; an earlier file stays.
        """
        run = self.run
        with saved_weights(run):
            return save_lora(
                path,
                run.adapters.patches(),
                family=run.host.family,
                metadata={},
                dtype=self.dtype,
                existing="replace",
            )

    def save_checked(self, path: Path) -> LoraReport:
        """Write the LoRA, read it back and compare.

        Raises:
            OSError: If it cannot be written.
        """
        self.save(path)
        with saved_weights(self.run):
            trained = self.run.adapters.patches()
        read = read_lora(path).patches
        missing = sorted(set(trained) - set(read))
        norms = self.run.adapters.delta_norms()
        return LoraReport(
            num_layers=len(read),
            missing=tuple(missing),
            norm=math.sqrt(sum(n * n for n in norms.values())),
        )

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the file: the job's, or by the base model (float32 stays float32)."""
        chosen = self.run.job.save_dtype
        if chosen == "auto":
            chosen = "fp32" if self.run.host.dtype == torch.float32 else "fp16"
        return DTYPES[chosen]


@contextmanager
def saved_weights(run: Run) -> Iterator[None]:
    """Hold the weights that are saved and sampled: the moving average, where the run keeps one."""
    parameters = run.adapters.parameters()
    with averaged_weights(run.optimizer):
        if run.ema is not None and run.ema.updates:
            run.ema.swap(parameters)
        try:
            yield
        finally:
            if run.ema is not None and run.ema.updates:
                run.ema.swap(parameters)
