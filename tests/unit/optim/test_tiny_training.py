"""Each optimizer of the registry trains a LoRA on the untrained tiny SDXL model, whole jobs."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from trustopt.cli.demo_job import PICTURES, VALUES
from trustopt.config import OptimizerConfig
from trustopt.data import ImageSet, scan_folder
from trustopt.hosts.diffusers_host import DiffusersHost
from trustopt.hosts.loading import load_tiny
from trustopt.optim import OPTIMIZERS
from trustopt.train.folders import Folders
from trustopt.train.plan_images import plan_images
from trustopt.train.plan_job import job_from_plan
from trustopt.train.run import Job, RunResult, run_job

STEPS = 12
LR = {"emofact": 1e-3, "emoclan": 1e-3, "lion": 6e-4, "prodigy": 1.0}
"""Where 3e-3, what suits AdamW on a model of random weights, is too much or in another unit."""


@pytest.fixture(scope="module", autouse=True)
def _one_thread_for_all() -> Iterator[None]:
    """The fixtures of the whole module train, too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def host() -> DiffusersHost:
    return load_tiny("sdxl", pretrained=False)


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return scan_folder(PICTURES)


Train = Callable[[str, float], RunResult]


@pytest.fixture(scope="module")
def train(host: DiffusersHost, images: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Run one job; all draw the same pictures, noise and noise levels."""
    cache = tmp_path_factory.mktemp("cache")

    def run(name: str, lr: float) -> RunResult:
        values = {**VALUES, "steps": STEPS, "lr": lr, "batch_size": 2}
        plan = plan_images(images, family="sdxl", purpose="style", overrides=values)
        folder = tmp_path_factory.mktemp(name)
        job = Job(
            config=job_from_plan(plan, OptimizerConfig(name=name), name=name),
            host=host,
            images=images,
            folders=Folders(loras=folder, runs=folder / "runs", cache=cache),
        )
        return run_job(job)

    return run


@pytest.fixture(scope="module")
def untrained(train: Train) -> np.ndarray:
    """The losses of the same draws where nothing is learned."""
    return train("adamw", 1e-9).signals.series("loss")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_trains_the_tiny_model(name: str, train: Train, untrained: np.ndarray) -> None:
    spec = OPTIMIZERS[name]
    if not spec.is_available or (name == "adamw8bit" and not torch.cuda.is_available()):
        pytest.skip(f"{spec.requires} is not installed, or has no kernels for this device")
    result = train(name, LR.get(name, 3e-3 * spec.lr_factor))

    losses = result.signals.series("loss")
    assert result.status == "finished"
    assert len(losses) == STEPS
    assert losses[0] == pytest.approx(untrained[0], rel=1e-4)
    assert (losses[-4:] < untrained[-4:]).all()
    if spec.family != "baseline":  # some of those have a warm-up of their own
        assert losses[-4:].mean() < 0.95 * untrained[-4:].mean()
    if spec.takes_loss:
        assert result.signals.series("optimizer/scalar").any()
