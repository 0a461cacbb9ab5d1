"""A job as a ``job.toml``: every value written out, so that it is the same run wherever it is read.

The presets may change, and another number of pictures gives another plan; a job that was handed
over must not. What is written is read back and compared before it is called a job.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from ..config import JobConfig
from ..data import ImageSet
from ..plan import VALUES, TrainPlan
from ..train.plan_images import plan_images
from ..train.plan_job import adapter_of, data_of, objective_of
from .job_config import job_config
from .job_file import TABLES, JobFile, TrainingTable, read_job_file
from .toml_text import toml_key, toml_value

HEADER = """\
# A training job, written out from the graph. Every value of the preset stands here: remove a line
# of [plan] to let the preset choose again. Relative paths start at this file's folder.
# Check it:  trustopt train {name} --dry-run
# Train:     trustopt train {name}
# A model elsewhere:  trustopt train {name} --set model.path=/models/base.safetensors
"""

Tables = dict[str, dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class WrittenJob:
    """What a job file is made of.

    Attributes:
        config: The run's settings.
        plan: Where they come from.
        model: Keys of ``[model]``.
        images: Keys of ``[images]``.
        samples: Keys of ``[samples]``.
    """

    config: JobConfig
    plan: TrainPlan
    model: Mapping[str, Any]
    images: Mapping[str, Any]
    samples: Mapping[str, Any] = field(default_factory=dict)


def write_job(job: WrittenJob, path: Path, images: ImageSet) -> JobFile:
    """Write a job file, read it back, and compare.

    Args:
        job: What to write.
        path: The new file.
        images: The pictures as the file's ``[images]`` gives them.

    Raises:
        ValueError: If the file would not give these settings; the message names one.
    """
    path.write_text(job_text(tables_of(job), path.name), encoding="utf-8")
    file = read_job_file(path)
    plan = plan_images(images, family=job.plan.family, purpose=file.purpose, overrides=file.plan)
    different = first_difference(job.config, job_config(file, plan))
    if different:
        raise ValueError(
            f"a job file cannot say {different}: report this with the workflow, it is an error of "
            "TrustOpt"
        )
    return file


def tables_of(job: WrittenJob) -> Tables:
    """Return the tables of a job's file; what is as it is by default is left out."""
    config, plan = job.config, job.plan
    tables: Tables = {
        "model": dict(job.model),
        "images": dict(job.images),
        "plan": {"purpose": plan.purpose, **plan_values(config, plan)},
        "optimizer": {
            "name": config.optimizer.name,
            "lr": config.optimizer.lr,
            "options": dict(config.optimizer.options),
        },
        "adapter": beyond(config.adapter, adapter_of(plan)),
        "objective": beyond(config.objective, objective_of(plan)),
        "data": beyond(config.data, data_of(plan)),
        "training": beyond(config, TrainingTable(), [f.name for f in fields(TrainingTable)]),
        "samples": dict(job.samples),
        "output": {"name": config.name, "seed": config.seed},
    }
    return {name: table for name, table in tables.items() if table}


def plan_values(config: JobConfig, plan: TrainPlan) -> dict[str, Any]:
    """Return the plan's values as the run has them.

    Epochs follow from the steps, and would contradict them after rounding.
    """
    values = {}
    for name in VALUES:
        # The optimizer may have adapted steps, rate and schedule; nodes, the adapter and the rest.
        parts = (config, config.adapter, config.objective, config.data, plan)
        part = next(part for part in parts if hasattr(part, name))
        values[name] = getattr(part, name)
    del values["epochs"]
    if plan.min_snr_gamma == 0.0 and config.objective.weighting == "none":
        values["min_snr_gamma"] = 0.0  # off; the objective keeps a gamma that it does not use
    return values


def beyond(given: Any, planned: Any, names: list[str] | None = None) -> dict[str, Any]:
    """Return fields of a config that differ from what the plan, or the default, makes of them.

    Args:
        given: The config.
        planned: What to compare with.
        names: Of the fields; None takes all that are no value of the plan.
    """
    if names is None:
        names = [f.name for f in fields(given) if f.name not in VALUES]
    pairs = {name: (getattr(given, name), getattr(planned, name)) for name in names}
    return {name: plain(ours) for name, (ours, theirs) in pairs.items() if ours != theirs}


def plain(value: Any) -> Any:
    """Return a config's value as TOML has it."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


def job_text(tables: Tables, name: str) -> str:
    """Return the file's text.

    Args:
        tables: In any order.
        name: Of the file.
    """
    parts = [HEADER.format(name=name)]
    for title in sorted(tables, key=["model", "images", "plan", *TABLES].index):
        nested = {k: v for k, v in tables[title].items() if k == "options" and v}
        flat = {k: v for k, v in tables[title].items() if k != "options" and v is not None}
        parts.append(_table(title, flat))
        parts += [_table(f"{title}.{key}", value) for key, value in nested.items()]
    return "\n".join(parts)


def _table(title: str, values: Mapping[str, Any]) -> str:
    lines = [f"{toml_key(key)} = {toml_value(value)}" for key, value in values.items()]
    return "\n".join([f"[{title}]", *lines, ""])


def first_difference(ours: Any, theirs: Any, where: str = "") -> str:
    """Return the first field in which two configs differ, with both values; empty if in none."""
    for f in fields(ours):
        first, second = getattr(ours, f.name), getattr(theirs, f.name)
        name = f"{where}{f.name}"
        if is_dataclass(first):
            found = first_difference(first, second, f"{name}.")
            if found:
                return found
        elif first != second:
            return f"{name} = {first!r} (it would read {second!r})"
    return ""
