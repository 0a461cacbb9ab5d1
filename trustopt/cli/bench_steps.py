"""``trustopt bench steps``: whether a long run grows or slows down.

A whole job on the embedded tiny SDXL, with everything a real one has around its steps: recorder,
saved states, validation. Every step's processor time is taken, and the memory now and then. Other
programs slow a processor down, too: so the same pass through a second network is timed beside the
steps, and a slow-down is of the steps over that.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ..config import AdapterConfig, DataConfig, JobConfig, OptimizerConfig
from ..data import image_set_from_arrays
from ..host import Conditioning, Geometry
from ..hosts.loading import load_tiny
from ..signals import Recorder
from ..train.folders import Folders
from ..train.hooks import Hooks
from ..train.loop import StepReport
from ..train.run import Job, run_job
from .bench_data import resident_mib

SIDE = 32
SAMPLES = 200
"""Times the memory is read."""


class Watch:
    """Follows a run's steps.

    Args:
        steps: Of the whole run.
    """

    def __init__(self, steps: int) -> None:
        self.every = max(1, steps // SAMPLES)
        self.seconds: list[float] = []
        self.reference: list[float] = []
        """Seconds of the same work again and again, once every ``every`` steps."""
        self.memory: list[tuple[int, float]] = []
        """Step and MiB of the process."""
        self._same_work = SameWork()
        self._before = time.process_time()

    def on_step(self, report: StepReport, _: Recorder) -> None:
        """Note a step."""
        self.seconds.append(time.process_time() - self._before)
        if report.step % self.every == 0:
            self.memory.append((report.step, resident_mib()))
            self.reference.append(self._same_work())
        self._before = time.process_time()

    def growth(self) -> float:
        """Return KiB a step by least squares, the first fifth of the run left out."""
        steps, memory = np.array(self.memory[len(self.memory) // 5 :]).T
        return float(np.polyfit(steps, memory * 1024.0, 1)[0])

    def slow_down(self) -> tuple[float, float]:
        """Return the last fifth's median over the second's: of the steps, and of the same work."""
        return late_over_early(self.seconds), late_over_early(self.reference)


def late_over_early(seconds: Sequence[float]) -> float:
    """Return the median of the last fifth over that of the second; the first is warming up."""
    fifth = len(seconds) // 5
    return statistics.median(seconds[-fifth:]) / statistics.median(seconds[fifth : 2 * fifth])


class SameWork:
    """One pass forward and backward through a tiny network that nothing trains."""

    def __init__(self) -> None:
        self.host = load_tiny("sdxl")
        [prompt] = self.host.encode_prompts(["a picture"])
        size = (SIDE, SIDE)
        geometry = [Geometry(original=size, crop=(0, 0), target=size)]
        self.conditioning = Conditioning(prompts=[prompt], geometry=geometry)

    def __call__(self) -> float:
        """Return its processor time in seconds."""
        started = time.process_time()
        side = SIDE // self.host.pixels_per_latent
        noised = torch.ones(1, self.host.latent_channels, side, side, requires_grad=True)
        with torch.enable_grad():
            self.host.denoise(noised, torch.ones(1), self.conditioning).sum().backward()
        return time.process_time() - started


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark and return 0."""
    parser = argparse.ArgumentParser(prog="trustopt bench steps", description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--optimizer", default="autotrustgo")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    watch = Watch(given.steps)
    with tempfile.TemporaryDirectory() as folder:
        result = run_job(tiny_job(Path(folder), given.steps, given.optimizer, watch))
    median = statistics.median(watch.seconds) * 1e3
    steps, same = watch.slow_down()
    print(
        f"{result.steps} steps of {median:.1f} ms: {watch.growth():+.3f} KiB a step\n"
        f"last fifth / second fifth: steps {steps:.3f}, the same work {same:.3f}, "
        f"so the run slowed down by {steps / same:.3f}"
    )
    return 0


def tiny_job(folder: Path, steps: int, optimizer: str, watch: Watch) -> Job:
    """Return a job on the tiny model and eight small pictures."""
    generator = np.random.default_rng(0)
    arrays = [generator.integers(0, 256, (SIDE, SIDE, 3), np.uint8) for _ in range(8)]
    config = JobConfig(
        name="bench",
        steps=steps,
        save_every=max(1, steps // 10),
        validate_every=max(1, steps // 20),
        data=DataConfig(resolution=SIDE, validation_fraction=0.2),
        adapter=AdapterConfig(rank=4, alpha=4.0),
        optimizer=OptimizerConfig(name=optimizer),
    )
    return Job(
        config=config,
        host=load_tiny("sdxl"),
        images=image_set_from_arrays(arrays, [f"picture {i}" for i in range(8)]),
        folders=Folders(loras=folder / "loras", runs=folder / "runs"),
        hooks=Hooks(on_step=watch.on_step),
    )
