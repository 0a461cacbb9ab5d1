"""The run's LoRA as a file: written from the weights that count, then read back and compared."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..adapters import SaveReport, TrainingRecord, build_metadata, save_lora, self_check
from ..adapters.files import Existing
from ..config import JobConfig
from ..data import TrainingSet
from ..host import Host
from ..optim import averaged_weights
from .loop import Run

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class LoraWriter:
    """Writes a run's LoRA in kohya's format, which loads everywhere."""

    run: Run
    dataset: TrainingSet
    checkpointing: bool
    """As the memory plan decided; a LoRA's header tells."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """Fields of ``TrainingRecord`` the engine cannot know: plan, workflow, title, versions."""
    private: bool = False
    """Leave out captions, folder names and the workflow."""

    def save(self, path: Path, *, existing: Existing = "replace") -> Path:
        """Write the LoRA as it is now and return where; by default over this run's earlier one.

        Raises:
            OSError: If it cannot be written; an earlier file stays.
        """
        with saved_weights(self.run):
            return save_lora(
                path,
                self.run.adapters.patches(),
                family=self.run.host.family,
                metadata=build_metadata(self._record(), private=self.private),
                dtype=self.dtype,
                existing=existing,
            )

    def save_checked(self, path: Path) -> SaveReport:
        """Write the LoRA, read it back from disk and compare it with what was trained.

        Raises:
            OSError: If it cannot be written.
        """
        self.save(path)
        host = self.run.host
        with saved_weights(self.run):
            return self_check(path, self.run.adapters.patches(), host.layers(), host.family)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the file."""
        return file_dtype(self.run.job, self.run.host)

    def _record(self) -> TrainingRecord:
        run, dataset = self.run, self.dataset
        training = [dataset.samples[i] for i in dataset.training]
        name = dataset.image_set.name
        pictures = sum(sample.repeats for sample in training) * run.job.repeats
        return TrainingRecord(
            job=run.job,
            family=run.host.family,
            base_model=run.host.model_name,
            prediction=run.host.prediction,
            zero_terminal_snr=run.objective.zero_terminal_snr,
            checkpointing=self.checkpointing,
            processes=run.ranks.size,
            steps=run.step,
            epoch=run.batches.epoch,
            num_images=pictures,
            num_validation_images=len(dataset.validation),
            num_batches=-(-pictures // run.job.batch_size),
            tag_frequency={name: tag_counts(dataset)},
            folders={name: (run.job.repeats, len(training))},
            buckets=dict(dataset.plan.buckets),
            trigger=dataset.image_set.trigger_word,
            **self.notes,
        )


def file_dtype(job: JobConfig, host: Host) -> torch.dtype:
    """Return a LoRA file's dtype: the job's, or by the base model (float32 stays float32)."""
    chosen = job.save_dtype
    if chosen == "auto":
        chosen = "fp32" if host.dtype == torch.float32 else "fp16"
    return DTYPES[chosen]


def tag_counts(dataset: TrainingSet) -> dict[str, int]:
    """Return in how many training captions each comma-separated tag stands, the most first."""
    captions = (dataset.captions[i][0] for i in dataset.training)
    counts = Counter(tag.strip() for text in captions for tag in text.split(",") if tag.strip())
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


@contextmanager
def saved_weights(run: Run) -> Iterator[None]:
    """Hold the weights that are saved and sampled: the moving average, where the run keeps one."""
    parameters = run.parameters
    averaged = run.ema if run.ema is not None and run.ema.updates else None
    with averaged_weights(run.optimizer):
        if averaged:
            averaged.swap(parameters)
        try:
            yield
        finally:
            if averaged:
                averaged.swap(parameters)
