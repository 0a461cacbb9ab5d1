"""One training in parts: in stages, with and without the optimizer's state, and apart, then merged.

muooon's document says of the Emo optimizers that what they train can be resumed, stacked, and
trained asynchronously, without synchronisation. Each way here takes as many steps as the whole.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from ...adapters import read_lora
from ...adapters.files import save_lora
from ...adapters.patch import LayerPatch
from ...data import ImageSet
from ...hosts.diffusers_host import DiffusersHost
from ...train.run import run_job
from .tasks import Task
from .trial import Measures, Trial, job_of

STEADY = {"scheduler": "constant", "warmup_steps": 0}
"""A schedule would tell the parts of a training apart; all ways have none."""


class Parts:
    """Trains one trial whole and in parts.

    Args:
        trial: Optimizer, rate, seed, and the steps of the whole.
        task: Whose training pictures are halved.
        host: The model.
        folder: For what the runs leave.
    """

    def __init__(self, trial: Trial, task: Task, host: DiffusersHost, folder: Path) -> None:
        self.trial, self.task, self.host, self.folder = trial, task, host, folder
        samples = task.training.samples
        half = len(samples) // 2
        self.halves = [
            replace(task.training, samples=samples[:half], name="first half"),
            replace(task.training, samples=samples[half:], name="second half"),
        ]

    def losses(self) -> dict[str, float]:
        """Return the held-out loss of each way.

        ``whole``: all steps on all pictures. ``first half``: half the steps on half the pictures.
        ``resumed``: then as many on the other half, with the optimizer's state; ``stacked``: the
        same with a new optimizer. ``mean`` and ``sum``: half the steps on each half, both from the
        start, the two changes merged with weights 1/2 and 1.
        """
        steps = self.trial.steps
        first, found = self.train("first", self.halves[0], steps // 2)
        losses = {"first half": found}
        _, losses["resumed"] = self.train("first", self.halves[1], steps, resume=True)
        _, losses["stacked"] = self.train("stacked", self.halves[1], steps // 2, start_from=first)
        second, _ = self.train("second", self.halves[1], steps // 2)
        for name, weight in (("mean", 0.5), ("sum", 1.0)):
            path = self.folder / f"{name}.safetensors"
            merge([first, second], weight, path)
            losses[name] = self.loss_of(path)
        _, losses["whole"] = self.train("whole", self.task.training, steps)
        return losses

    def train(
        self,
        name: str,
        images: ImageSet,
        steps: int,
        *,
        resume: bool = False,
        start_from: Path | None = None,
    ) -> tuple[Path, float]:
        """Train and return a copy of the LoRA, and its held-out loss."""
        measures = Measures(self.host, self.task)
        trial = replace(self.trial, steps=steps)
        job = job_of(trial, images, self.host, self.folder / name, measures, **STEADY)
        # Another half is another set of pictures, which a resume refuses unless told.
        job.resume, job.anyway, job.start_from = resume, resume, start_from
        result = run_job(job)
        kept = self.folder / f"{name}-{steps}.safetensors"
        kept.write_bytes(result.lora.read_bytes())
        return kept, measures.losses["held_out"][-1]

    def loss_of(self, lora: Path) -> float:
        """Return the held-out loss of a file: what a run that starts from it measures first."""
        measures = Measures(self.host, self.task)
        trial = replace(self.trial, steps=1)
        job = job_of(trial, self.task.training, self.host, self.folder / lora.stem, measures)
        job.start_from = lora
        run_job(job)
        return measures.losses["held_out"][0]


def merge(loras: list[Path], weight: float, path: Path) -> None:
    """Write the weighted sum of LoRAs' changes as one LoRA of their ranks' sum."""
    files = [read_lora(lora) for lora in loras]
    patches = {
        name: merged([file.patches[name] for file in files], weight) for name in files[0].patches
    }
    save_lora(path, patches, family="sdxl", metadata={}, dtype=torch.float32)


def merged(patches: list[LayerPatch], weight: float) -> LayerPatch:
    """Return the patch whose change is the weighted sum of others': their factors side by side."""
    downs = [patch.tensors["lora_down.weight"].float() for patch in patches]
    ups = [weight * patch.scale * patch.tensors["lora_up.weight"].float() for patch in patches]
    tensors: Mapping[str, torch.Tensor] = {
        "lora_down.weight": torch.cat(downs, dim=0),
        "lora_up.weight": torch.cat(ups, dim=1),
    }
    return LayerPatch("lora", tensors, alpha=float(sum(len(down) for down in downs)))
