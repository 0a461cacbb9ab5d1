"""``trustopt bench signal``: how much of the loss is training, how much is dice.

A tiny SDXL trains with AdamW on the bundled pictures. Its raw loss and the loss with the noise
levels divided out are recorded side by side, so both tell of the very same steps. Each is divided
by its own trend, a centred average over 51 steps; what varies about it is noise to an optimizer
that listens.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ..config import DataConfig, JobConfig, OptimizerConfig
from ..data import scan_folder
from ..hosts.loading import load_tiny
from ..hosts.tiny.specs import PICTURE_SIZE
from ..signals import Signals
from ..train.folders import Folders
from ..train.run import Job, run_job
from .demo_job import PICTURES, TRIGGER_WORD

WINDOW = 51


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark and return 0."""
    parser = argparse.ArgumentParser(prog="trustopt bench signal", description=__doc__)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4], help="batch sizes")
    given = parser.parse_args(arguments)
    if given.steps < 2 * WINDOW:
        parser.error(f"--steps must be at least {2 * WINDOW}, got {given.steps}")
    torch.set_num_threads(1)
    print("batch  deviation raw / normalised  share of the variance that is noise level")
    for batch in given.batches:
        signals = train(given.steps, batch)
        raw, free = signals.series("loss"), signals.series("loss_level_free")
        spreads = [float(about_trend(values).std()) for values in (raw, free)]
        share = 1.0 - (spreads[1] / spreads[0]) ** 2
        print(f"{batch:>5}  {spreads[0]:>13.3f} / {spreads[1]:<10.3f}  {share:.1%}", flush=True)
    return 0


def train(steps: int, batch: int) -> Signals:
    """Return the signals of a run on the tiny model."""
    config = JobConfig(
        name="bench",
        steps=steps,
        lr=1e-3,
        batch_size=batch,
        save_every=0,
        data=DataConfig(resolution=PICTURE_SIZE),
        optimizer=OptimizerConfig(name="adamw"),
    )
    with tempfile.TemporaryDirectory() as folder:
        folders = Folders(loras=Path(folder) / "loras", runs=Path(folder) / "runs")
        images = scan_folder(PICTURES, trigger_word=TRIGGER_WORD)
        host = load_tiny("sdxl", pretrained=False)
        job = Job(config=config, host=host, images=images, folders=folders)
        return run_job(job).signals


def about_trend(values: np.ndarray) -> np.ndarray:
    """Return values over their centred moving average, less 1; the ends are left out."""
    trend = np.convolve(values, np.full(WINDOW, 1.0 / WINDOW), mode="valid")
    half = WINDOW // 2
    return values[half:-half] / trend - 1.0
