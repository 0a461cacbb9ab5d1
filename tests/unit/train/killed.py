"""Jobs that another process trains and somebody kills; each has much to lose."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from toy import HalfToyHost, ToyHost, images, job

from trustopt.config import AdapterConfig, DataConfig, OptimizerConfig
from trustopt.hosts.loading import load_tiny
from trustopt.train.hooks import Hooks
from trustopt.train.run import Job, run_job

SAVE_EVERY = 3


def everything(folder: Path, host: ToyHost) -> Job:
    """All that draws numbers or remembers: dropouts, variants, average, validation, two passes."""
    made = job(
        folder,
        host=host,
        steps=40,
        save_every=SAVE_EVERY,
        batch_size=2,
        accumulation=2,
        ema_decay=0.9,
        validate_every=4,
        scheduler="cosine",
        warmup_steps=5,
        # Its loss averages are the state most easily lost.
        optimizer=OptimizerConfig(name="emonavi"),
        adapter=AdapterConfig(rank=2, alpha=2.0, dropout=0.1, lora_plus_ratio=4.0),
        data=DataConfig(
            resolution=32,
            flip=True,
            shuffle_tags=True,
            caption_dropout=0.2,
            tag_dropout=0.2,
            validation_fraction=0.3,
        ),
    )
    made.images = images(7).with_regularisation(images(2))
    return made


def trusting(folder: Path) -> Job:
    """The same with the optimizer that most people will use."""
    made = everything(folder, ToyHost())
    made.config = replace(made.config, optimizer=OptimizerConfig(name="autotrustgo"))
    return made


def half(folder: Path) -> Job:
    """In fp16, whose loss is scaled."""
    return everything(folder, HalfToyHost())


def text(folder: Path) -> Job:
    """Both text encoders of a small SDXL learn, too."""
    made = job(folder, steps=8, save_every=2, validate_every=3, ema_decay=0.9, accumulation=2)
    made.host = load_tiny("sdxl")
    made.config = replace(
        made.config,
        adapter=AdapterConfig(rank=2, alpha=2.0, targets="attention", train_text_encoders=True),
        data=DataConfig(resolution=64, validation_fraction=0.3, caption_dropout=0.2),
    )
    return made


JOBS = {
    "everything": lambda folder: everything(folder, ToyHost()),
    "autotrustgo": trusting,
    "fp16": half,
    "text encoders": text,
}


def train(kind: str, folder: Path, tell: Callable[[int], object]) -> None:
    """Train a job to its end, from where it stands, and tell each step on its way."""
    torch.set_num_threads(1)
    made = JOBS[kind](folder)
    made.resume = True
    made.hooks = Hooks(on_step=lambda report, recorder: tell(report.step))
    run_job(made)
