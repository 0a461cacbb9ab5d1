"""One trial: an optimizer at a learning rate and a seed trains the task and is judged."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...config import DataConfig, OptimizerConfig
from ...data import Batch, ImageSet, prepare
from ...hosts.diffusers_host import DiffusersHost
from ...hosts.sampling import sample
from ...signals import Recorder
from ...train.folders import Folders
from ...train.hooks import Hooks, ignore
from ...train.loop import Run, StepReport
from ...train.plan_images import plan_images
from ...train.plan_job import job_from_plan
from ...train.run import Job, run_job
from ...train.validation import Validation
from ..demo_job import GUIDANCE, VALUES
from .judge import judge
from .packages import SIDE
from .tasks import Task

MEASURE_EVERY = 15
"""Steps between measured losses; shorter runs are measured four times. One is before step 1."""

NOISE_SEED = 0
SAMPLING_STEPS = 12


@dataclass(frozen=True)
class Trial:
    """What is tried.

    Attributes:
        contender: Its name in the table.
        optimizer: Its name in the registry.
        lr: Learning rate.
        seed: Of the LoRA's weights, the data's order and all noise.
        steps: Of the run.
        options: Of the optimizer.
    """

    contender: str
    optimizer: str
    lr: float
    seed: int
    steps: int
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, float, int, int]:
        """What tells trials apart."""
        return (self.contender, self.lr, self.seed, self.steps)


class Measures:
    """Follows a run's losses on trained, held-out and other pictures, at fixed noise.

    Args:
        host: The model.
        task: What is trained.
    """

    def __init__(self, host: DiffusersHost, task: Task) -> None:
        self._host, self._task = host, task
        sets = {"train": task.training, "held_out": task.held_out, "others": task.others}
        self._sets = {
            name: Validation([whole_batch(images, host)], NOISE_SEED)
            for name, images in sets.items()
            if images is not None
        }
        self.losses: dict[str, list[float]] = {name: [] for name in self._sets}
        self.steps: list[int] = []
        self.stop_step: int | None = None
        self.drawn: list[np.ndarray] = []
        self.last_step = 0

    def on_step(self, report: StepReport, _: Recorder) -> None:
        """Note the first step at which the optimizer would stop."""
        if self.stop_step is None and report.signals.get("should_stop"):
            self.stop_step = report.step

    def on_sample(self, run: Run) -> None:
        """Measure the losses; draw the held-out pictures when the run is over."""
        self.steps.append(run.step)
        for name, validation in self._sets.items():
            self.losses[name].append(validation.loss(run))
        if run.step == self.last_step:
            self.drawn = draw(self._host, self._task.prompts)


def whole_batch(images: ImageSet, host: DiffusersHost) -> Batch:
    """Return all pictures of a set as one batch, neither mirrored nor without caption."""
    config = DataConfig(resolution=SIDE, caption_dropout=0.0)
    training_set = prepare(images, config, host, cache_dir=None, seed=0, progress=ignore)
    stream = training_set.batches(len(images.samples), 1, torch.Generator().manual_seed(0))
    return next(stream)


def draw(host: DiffusersHost, prompts: Sequence[str]) -> list[np.ndarray]:
    """Draw with the model as it is, uint8 ``(64, 64, 3)`` each."""
    pictures = sample(
        host,
        prompts,
        size=(SIDE, SIDE),
        steps=SAMPLING_STEPS,
        guidance=GUIDANCE["sdxl"],
        seed=NOISE_SEED,
    )
    return list(pictures)


def run_trial(trial: Trial, task: Task, host: DiffusersHost, folder: Path) -> dict[str, Any]:
    """Train and judge; return plain numbers, and the drawn pictures under ``drawn``."""
    measures = Measures(host, task)
    job = job_of(trial, task.training, host, folder, measures, purpose=task.purpose)
    measures.last_step = job.config.steps
    result = run_job(job)
    return {
        **asdict(trial),
        "task": task.name,
        "pictures": task.size,
        **summary(measures, task),
        "seconds": result.seconds,
    }


def job_of(
    trial: Trial,
    images: ImageSet,
    host: DiffusersHost,
    folder: Path,
    measures: Measures,
    *,
    purpose: str = "style",
    **values: Any,
) -> Job:
    """Return the job of a trial.

    Args:
        trial: Optimizer, rate, seed and steps.
        images: To train on.
        host: The model.
        folder: For what the run leaves.
        measures: Follows it.
        purpose: Of the preset.
        values: Of the plan, besides the trial's.
    """
    every = max(1, min(MEASURE_EVERY, trial.steps // 4))
    overrides = {**VALUES, "steps": trial.steps, "lr": trial.lr, "sample_every": every, **values}
    plan = plan_images(images, family="sdxl", purpose=purpose, overrides=overrides)
    optimizer = OptimizerConfig(name=trial.optimizer, options=trial.options)
    return Job(
        config=job_from_plan(plan, optimizer, name="trial", seed=trial.seed),
        host=host,
        images=images,
        folders=Folders(loras=folder / "loras", runs=folder / "runs"),
        hooks=Hooks(
            on_step=measures.on_step,
            on_sample=measures.on_sample,
            on_sample_failed=reraise,
        ),
    )


def reraise(_step: int, error: Exception) -> None:
    """A trial that cannot be measured is worth nothing."""
    raise error


def summary(measures: Measures, task: Task) -> dict[str, Any]:
    """Return what is kept of a trial."""
    held_out, train = measures.losses["held_out"], measures.losses["train"]
    best = int(np.argmin(held_out))
    others = measures.losses.get("others")
    return {
        **asdict(judge(measures.drawn, task.truth)),
        "held_out": held_out[-1],
        "before": held_out[0],
        "best": held_out[best],
        "best_step": measures.steps[best],
        "train": train[-1],
        "train_before": train[0],
        # What the two sets differ by before training is not overfitting.
        "gap": (held_out[-1] - held_out[0]) - (train[-1] - train[0]),
        # How much worse other things are known than before; None without pictures of them.
        "leak": None if others is None else others[-1] - others[0],
        "others_before": None if others is None else others[0],
        "stop_step": measures.stop_step,
        "curve": [list(point) for point in zip(measures.steps, train, held_out, strict=True)],
        "drawn": measures.drawn,
    }
