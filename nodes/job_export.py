"""What the export node does: from the trainer's inputs to a folder that trains without ComfyUI."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..trustopt.cli.job_config import scan_images
from ..trustopt.cli.job_file import ImagesTable
from ..trustopt.cli.job_writing import WrittenJob, beyond, write_job
from ..trustopt.data import ImageSet, Sample
from ..trustopt.data.export import (
    check_same_pictures,
    common_folder,
    shared_repeats,
    split_regularisation,
    write_pictures,
)
from ..trustopt.data.manifest import write_manifest
from .bridge.job_model import model_table, precision_note
from .places import jobs_folder
from .sampler import SamplePlan, plan_samples
from .training import TrainRequest

JOB, MANIFEST = "job.toml", "manifest.json"
FOLDERS = {"folder": "images", "regularisation": "regularisation"}
"""Keys of ``[images]`` -> folders of the copies, beside the job."""

CAPTIONS = (".txt", ".caption", ".cap", ".tags", ".text", ".prompt")
"""Extensions tried to read the captions of a folder that is not copied."""


@dataclass(frozen=True)
class ExportedJob:
    """A job file, and what a user should know of it."""

    path: Path
    notes: tuple[str, ...]

    def report(self) -> str:
        """Return what the node shows."""
        return "\n".join([str(self.path), *self.notes, f"trustopt train {self.path} --dry-run"])


def export_job(request: TrainRequest, *, copy_images: bool) -> ExportedJob:
    """Write ``job.toml``, a manifest of the pictures and, if wanted, the pictures themselves.

    Args:
        request: What the trainer would be given.
        copy_images: Copy the pictures beside the job; else it names their folder.

    Raises:
        ValueError: If a job file cannot say what the graph would train; nothing is left behind.
        OSError: If something cannot be written.
    """
    host, config = request.resolve()
    model = model_table(host, request.model, request.clip, request.vae)
    notes = [precision_note(host, request.model)]
    samples: dict[str, Any] = {}
    if request.samples is not None:
        plan = plan_samples(request.samples, host, request.images, config.data.resolution)
        samples = samples_table(plan, host.family)
        notes += sampling_notes(plan)
    with new_folder(config.name) as folder:
        table, images = export_images(request.images, folder, copy_images=copy_images)
        write_manifest(images, folder / MANIFEST)
        job = WrittenJob(
            config=config,
            plan=request.plan,
            model=model,
            images=beyond(table, ImagesTable(), [f.name for f in fields(table)]),
            samples=samples,
        )
        write_job(job, folder / JOB, images)
    copied = "copied" if copy_images else "left where they are"
    pictures = f"{len(images.samples)} pictures {copied}"
    return ExportedJob(folder / JOB, (pictures, *filter(None, notes)))


@contextmanager
def new_folder(name: str) -> Iterator[Path]:
    """Make a folder for a job; an error in the ``with`` block removes it again."""
    folder = jobs_folder(name)
    try:
        yield folder
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        place = error.filename or folder
        raise OSError(
            error.errno,
            f"the job cannot be written: {place} ({error.strerror or error}). Free disk space, or "
            "turn copy_images off; if a picture is gone, load the folder anew. Nothing was left",
        ) from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def export_images(
    images: ImageSet, folder: Path, *, copy_images: bool
) -> tuple[ImagesTable, ImageSet]:
    """Return the table ``[images]``, and the set as it gives it.

    Raises:
        ValueError: If a folder cannot say what the set is.
    """
    learned, others = split_regularisation(images)
    if others and shared_repeats(others) != 1:
        raise ValueError(
            "the regularisation pictures are repeated, which a job file cannot say: set repeats "
            "to 1 on the node that loads them"
        )
    places = {}
    for name, samples in (("folder", learned), ("regularisation", others)):
        if samples and copy_images:
            places[name] = FOLDERS[name]
            write_pictures(samples, folder / FOLDERS[name])
        elif samples:
            places[name] = str(folder_in_place(samples).resolve())
    errors = []
    for extension in (".txt",) if copy_images else CAPTIONS:
        table = ImagesTable(
            **places,
            trigger_word=images.trigger_word,
            caption_extension=extension,
            repeats=shared_repeats(learned),
            manifest=MANIFEST,
        )
        found = scan_images(table, folder)
        try:
            check_same_pictures(images.samples, found.samples)
        except ValueError as error:
            errors.append(error)
        else:
            return table, found
    raise errors[0]


def folder_in_place(samples: Sequence[Sample]) -> Path:
    """Return the folder that pictures were read from.

    Raises:
        ValueError: If they are in memory.
    """
    folder = common_folder(samples)
    if folder is None:
        raise ValueError(
            "the pictures come from other nodes, so there is no folder to name: turn copy_images on"
        )
    return folder


def samples_table(plan: SamplePlan, family: str) -> dict[str, Any]:
    """Return the keys of ``[samples]``."""
    settings = plan.settings
    return {
        "prompts": list(plan.prompts),
        "seed": plan.seed,
        "steps": settings.steps,
        "guidance": plan.guidance if family == "flux" else settings.cfg,
        "width": settings.width,
        "height": settings.height,
    }


def sampling_notes(plan: SamplePlan) -> list[str]:
    """Return what the job's sample pictures have otherwise than the graph's."""
    notes = ["sample pictures: by the headless sampler, which is not ComfyUI's"]
    if plan.negative:
        notes.append(f"sample pictures: without the negative prompt {plan.negative!r}")
    return notes
