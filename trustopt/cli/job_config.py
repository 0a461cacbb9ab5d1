"""What a job file says of pictures and settings, without loading a model."""

from dataclasses import replace
from pathlib import Path

from ..config import JobConfig
from ..data import ImageSet, scan_folder
from ..data.manifest import check_manifest
from ..plan import TrainPlan
from ..train.plan_job import adapter_of, data_of, job_from_plan, objective_of
from .job_file import ImagesTable, JobFile, settings_of


def job_config(file: JobFile, plan: TrainPlan) -> JobConfig:
    """Return the run's settings: the plan's values, then what the file sets beyond them."""
    return job_from_plan(
        plan,
        file.optimizer,
        name=file.name,
        seed=file.output.seed,
        adapter=replace(adapter_of(plan), **file.adapter),
        objective=replace(objective_of(plan), **file.objective),
        data=replace(data_of(plan), **file.data),
        **settings_of(file.training),
    )


def load_images(file: JobFile) -> ImageSet:
    """Scan the job's folders, and compare them with its manifest.

    Raises:
        ValueError: If a folder cannot be used, or a picture is another than listed.
    """
    images = scan_images(file.images, file.path.parent)
    if file.images.manifest:
        check_manifest(images, file.locate(file.images.manifest))
    return images


def scan_images(table: ImagesTable, root: Path) -> ImageSet:
    """Scan the folders of ``[images]``.

    Args:
        table: The pictures.
        root: Where relative paths start.

    Raises:
        ValueError: If a folder cannot be used.
    """
    images = scan_folder(
        root / Path(table.folder).expanduser(),
        trigger_word=table.trigger_word,
        caption_extension=table.caption_extension,
        repeats=table.repeats,
    )
    if not table.regularisation:
        return images
    others = scan_folder(
        root / Path(table.regularisation).expanduser(), caption_extension=table.caption_extension
    )
    return images.with_regularisation(others)
