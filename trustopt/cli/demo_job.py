"""The demo's run: bundled pictures, tiny model, LoRA, signals, pictures before and after."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from ..config import OptimizerConfig
from ..data import ImageSet, scan_folder
from ..data.captions import with_trigger
from ..data.images import thumbnail
from ..host import Family
from ..hosts.diffusers_host import DiffusersHost
from ..hosts.loading import load_tiny
from ..hosts.tiny.specs import PICTURE_SIZE
from ..signals.picture_grid import labelled_grid
from ..train.folders import Folders
from ..train.loop import Run
from ..train.plan_images import plan_images
from ..train.plan_job import job_from_plan
from ..train.run import Job
from .job_file import SamplesTable
from .sample_pictures import SamplePictures
from .show_run import plan_report, run_shown, show_result, write_signals

PICTURES = Path(__file__).parents[1] / "hosts" / "tiny" / "images"
TRIGGER_WORD = "twemoji"
SHOWN = ("fox", "panda", "frog", "lion")
"""Bundled pictures whose captions become prompts."""

GUIDANCE = {"sdxl": 3.0, "flux": None}
"""Of the pictures: the tiny SDXL's colours run over at the 5 that suits a large one."""

VALUES = {
    "resolution": PICTURE_SIZE,
    "lr": 2e-3,
    "targets": "full",
    "batch_size": 4,
    "save_every": 0,
    "sample_every": 0,
}
"""So small a model has little to spare for a second style: all its layers, in large steps."""

NOTES = {
    "sdxl": """\
The tiny SDXL draws Google's emoji, roughly: it has a few million weights. What the LoRA taught it
of Twitter's style is in samples.""",
    "flux": """\
The tiny FLUX has random weights, so its pictures are noise before and after: what shows that it
learned is the falling loss in signals.png.""",
}
ONWARD = """\
For your own pictures on SDXL or FLUX: trustopt train --example > job.toml"""


def demo(*, family: Family, steps: int, optimizer: str, out: Path, seed: int) -> int:
    """Train, say where everything is, and return the exit code.

    Raises:
        ValueError: If steps or optimizer are not allowed, or the folder cannot be written.
    """
    images = scan_folder(PICTURES, trigger_word=TRIGGER_WORD)
    plan = plan_images(images, family=family, purpose="style", overrides={**VALUES, "steps": steps})
    config = job_from_plan(plan, OptimizerConfig(name=optimizer), name=f"demo_{family}", seed=seed)
    host, out = load_tiny(family), new_folder(out)
    job = Job(
        config=config,
        host=host,
        images=images,
        folders=Folders(loras=out, runs=out / "runs"),
        notes={"plan": plan.to_dict()},
    )
    print(plan_report(job, plan), flush=True)
    pictures = BeforeAfter(host, images, seed, out / "samples" / "before_after.png")
    with one_thread():
        result = run_shown(job, pictures)
    places = {"signals": write_signals(result.signals, out / "signals.png")}
    if pictures.path.exists():
        places["samples"] = pictures.path
    code = show_result(result, places)
    print(NOTES[family])
    print(ONWARD)
    return code


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: those of so small a model wait for each other more than they work.

    Where other programs compute, too, threads that wait for each other take many times longer
    than one alone.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def new_folder(wanted: Path) -> Path:
    """Create a folder, numbered if it exists, and return it.

    Raises:
        ValueError: If it cannot be created.
    """
    number, folder = 1, wanted
    while folder.exists():
        number += 1
        folder = wanted.with_name(f"{wanted.name}-{number}")
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise ValueError(
            f"folder {folder} cannot be created ({error.strerror}): choose another with --out"
        ) from error
    return folder


class BeforeAfter:
    """Draws the same prompts with the same noise before and after training, beside the pictures.

    Args:
        host: The model.
        images: The pictures trained on.
        seed: Of the noise.
        path: The picture to write.
    """

    def __init__(self, host: DiffusersHost, images: ImageSet, seed: int, path: Path) -> None:
        self.path = path
        shown = [s for s in images.samples if s.name in SHOWN]
        self.pictures = [np.asarray(thumbnail(s, PICTURE_SIZE)) for s in shown]
        self.prompts = [with_trigger(s.caption, TRIGGER_WORD) for s in shown]
        self._before: list[np.ndarray] = []
        table = SamplesTable(seed=seed, guidance=GUIDANCE[host.family])
        self._sample = SamplePictures(table, host, PICTURE_SIZE)

    def __call__(self, run: Run, _folder: Path, progress: Callable[[int, int], None]) -> None:
        """Keep the pictures of before step 1; at the end write the grid."""
        drawn = self._sample.draw(run, self.prompts, progress)
        if run.step == 0:
            self._before = drawn
            return
        rows = list(zip(self._before, drawn, self.pictures, strict=True))
        grid = labelled_grid(
            self.prompts, ("before", f"after {run.step} steps", "trained on"), rows
        )
        self.path.parent.mkdir(exist_ok=True)
        grid.save(self.path, optimize=True)
