"""The TOML face of a job: ``read_job_file`` checks a ``job.toml`` and says what is wrong with it.

Tables of a job file are the config dataclasses of ``config.py`` plus the few below. A value of the
plan (rank, resolution, ...) may stand in ``[plan]`` or in the table it belongs to, not in both.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from ..config import AdapterConfig, DataConfig, JobConfig, ObjectiveConfig, OptimizerConfig
from ..config import check_name as check_run_name
from ..plan import PURPOSES, VALUES, check_value
from .field_types import build

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True, kw_only=True)
class ModelTable:
    """The base model."""

    path: str = ""
    """A ``.safetensors`` checkpoint, a diffusers folder, or ``tiny``: the embedded demo model."""
    files: tuple[str, ...] = ()
    """Files of the parts a checkpoint lacks: VAE, CLIP-L, CLIP-G, T5, in any order."""
    tokenizers: str = ""
    """Folder of tokenizers for a checkpoint; empty looks into Hugging Face's cache."""
    family: Literal["auto", "sdxl", "flux"] = "auto"
    """``auto`` reads it from the file; the tiny model needs it."""
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """``auto``: bf16 on a GPU that has it, else fp16 there, fp32 on a CPU."""
    device: str = "auto"
    """``cuda``, ``cuda:1``, ``mps``, ``cpu``; ``auto`` takes the first there is."""


@dataclass(frozen=True, kw_only=True)
class ImagesTable:
    """The pictures and their captions."""

    folder: str = ""
    trigger_word: str = ""
    """Added to captions that lack it."""
    caption_extension: str = ".txt"
    repeats: int = 1
    """Times each picture is seen an epoch, on top of a sub-folder's own (``10_name``)."""
    regularisation: str = ""
    """Folder of pictures that should look as the base model makes them; empty: none."""
    manifest: str = ""
    """List of the pictures by content; training is refused if they are others. Empty: none."""


@dataclass(frozen=True, kw_only=True)
class TrainingTable:
    """How the run is kept; what decides its length and step size is in ``[plan]``."""

    max_grad_norm: float = JobConfig.max_grad_norm
    checkpointing: Literal["auto", "on", "off"] = "auto"
    """Recompute activations in backward to save memory."""
    cuda_graphs: Literal["auto", "off"] = "auto"
    """Record a step's kernels and launch them as one, where a GPU has room for it."""
    keep_last: int = JobConfig.keep_last
    max_bad_steps: int = JobConfig.max_bad_steps
    validate_every: int = JobConfig.validate_every
    ema_decay: float = JobConfig.ema_decay
    save_dtype: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Precision of the LoRA file."""


@dataclass(frozen=True, kw_only=True)
class SamplesTable:
    """Pictures made while training."""

    prompts: tuple[str, ...] = ()
    """None: no pictures."""
    seed: int = 0
    steps: int = 20
    guidance: float | None = None
    """Guidance scale; the family's usual one if left out."""
    width: int | None = None
    """Pixels; the training resolution if left out."""
    height: int | None = None


@dataclass(frozen=True, kw_only=True)
class OutputTable:
    """Where things go; relative paths start at the job file's folder."""

    name: str = ""
    """Stem of the LoRA file and of the run's folder; empty: the job file's own name."""
    loras: str = "loras"
    runs: str = "runs"
    cache: str = "cache"
    """Encoded pictures and captions, shared by runs; empty keeps them in memory."""
    seed: int = 0
    resume: bool = False
    """Go on with the newest run of this name, if it has a saved state."""
    anyway: bool = False
    """Resume although model or pictures differ from the saved run's."""
    private: bool = False
    """Leave captions and folder names out of the LoRA's metadata."""
    tensorboard: bool = False
    """Also write TensorBoard's event files, into the run's folder."""


TINY = "tiny"

TABLES: Mapping[str, type] = {
    "model": ModelTable,
    "images": ImagesTable,
    "optimizer": OptimizerConfig,
    "adapter": AdapterConfig,
    "objective": ObjectiveConfig,
    "data": DataConfig,
    "training": TrainingTable,
    "samples": SamplesTable,
    "output": OutputTable,
}
"""Every table but ``[plan]``, whose keys are ``purpose`` and those of ``plan.VALUES``."""


@dataclass(frozen=True, kw_only=True)
class JobFile:
    """A job file's content, checked."""

    path: Path
    purpose: str
    plan: Mapping[str, Any]
    """The plan's values that the user set."""
    model: ModelTable
    images: ImagesTable
    optimizer: OptimizerConfig
    adapter: Mapping[str, Any] = field(default_factory=dict)
    """What was set of ``AdapterConfig`` beyond the plan's values; likewise the next two."""
    objective: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    training: TrainingTable
    samples: SamplesTable
    output: OutputTable

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.output.name or self.path.stem

    @property
    def is_tiny(self) -> bool:
        """Whether the model is the embedded one."""
        return self.model.path == TINY

    def locate(self, path: str) -> Path:
        """Return a path of the file; a relative one starts at the file's folder."""
        return self.path.parent / Path(path).expanduser()


def read_job_file(path: Path, settings: Sequence[str] = ()) -> JobFile:
    """Read and check a job file.

    Args:
        path: The TOML file.
        settings: ``table.key=value`` each, replacing what the file says.

    Raises:
        ValueError: If the file is missing or no TOML, or a table, key or value is unknown or not
            allowed; the message names file, table and key.
    """
    tables = parse_with(path, settings)
    where = path.name
    known = ["plan", *TABLES]
    for name, table in tables.items():
        if name not in known:
            raise ValueError(
                f"{where} does not know [{name}]; it knows [{'], ['.join(sorted(known))}]"
            )
        if not isinstance(table, dict):
            raise ValueError(f"{where} {name} must be a table [{name}], got {table!r}")
    built = {
        name: build(cls, tables.get(name, {}), f"{where} [{name}]") for name, cls in TABLES.items()
    }
    job = JobFile(path=path, **built | plan_values(tables, where))
    check_given(job, where)
    return job


def parse_with(path: Path, settings: Sequence[str]) -> dict[str, Any]:
    """Return a job file's tables with settings put over them.

    Raises:
        ValueError: As ``parse`` and ``put`` do.
    """
    tables = parse(path)
    for setting in settings:
        put(tables, setting)
    return tables


def parse(path: Path, *, kind: str = "job file", example: str = "train") -> dict[str, Any]:
    """Return a TOML file's tables.

    Args:
        path: The file.
        kind: What errors call it.
        example: The command that prints one.

    Raises:
        ValueError: If it cannot be read, or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ValueError(
            f"{kind} {path} cannot be read ({error.strerror}): give the path of a TOML file; "
            f"trustopt {example} --example prints one to start from"
        ) from error
    except ValueError as error:  # not UTF-8, or not TOML
        raise ValueError(f"{kind} {path} is no TOML: {error}") from error


def put(tables: dict[str, Any], setting: str) -> None:
    """Put ``table.key=value`` into the tables; the value is TOML, or else a plain text.

    Raises:
        ValueError: If the setting has another form.
    """
    place, equals, text = setting.partition("=")
    *parents, key = (part.strip() for part in place.split("."))
    if not equals or not parents or not all([*parents, key]):
        raise ValueError(
            f"--set {setting} must be table.key=value, for example --set plan.steps=500"
        )
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    for parent in parents:
        tables = tables.setdefault(parent, {})
        if not isinstance(tables, dict):
            raise ValueError(f"--set {setting}: {parent} is no table")
    tables[key] = value


def plan_values(tables: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return ``purpose`` and ``plan``, and what else stands in the tables that share its values.

    Raises:
        ValueError: If a name is unknown, a value not allowed, or given twice.
    """
    plan = dict(tables.get("plan", {}))
    purpose = plan.pop("purpose", "character")
    if purpose not in PURPOSES:
        raise ValueError(
            f"{where} [plan] purpose must be one of {', '.join(PURPOSES)}, got {purpose!r}"
        )
    for name, value in plan.items():
        if name not in VALUES:
            raise ValueError(
                f"{where} [plan] does not know {name!r}; it knows purpose, {', '.join(VALUES)}"
            )
        check_value(name, value, f"{where} [plan] ")
    rest: dict[str, Any] = {}
    for table in ("adapter", "objective", "data"):
        given = tables.get(table, {})
        shared = {name: value for name, value in given.items() if name in VALUES}
        twice = sorted(shared.keys() & plan.keys())
        if twice:
            raise ValueError(
                f"{where} sets {twice[0]} in [plan] and in [{table}]: keep one of the two"
            )
        for name, value in shared.items():
            plan[name] = check_value(name, value, f"{where} [{table}] ")
        rest[table] = {name: value for name, value in given.items() if name not in VALUES}
    return {"purpose": purpose, "plan": plan, **rest}


def check_given(job: JobFile, where: str) -> None:
    """Check what every job needs, and that the model's files are there.

    Raises:
        ValueError: If one is missing; the message says what to write.
    """
    for table, key in (("model", "path"), ("images", "folder")):
        if not getattr(getattr(job, table), key):
            raise ValueError(f"{where} lacks {key} in [{table}]: name the {table} to train on")
    if job.is_tiny and job.model.family == "auto":
        raise ValueError(f'{where} [model] family must be "sdxl" or "flux" for the tiny model')
    wanted = [] if job.is_tiny else [job.model.path]
    for path in (*wanted, *job.model.files, *filter(None, [job.model.tokenizers])):
        if not job.locate(path).exists():
            raise ValueError(
                f"{where} [model] {job.locate(path)} does not exist: give a .safetensors "
                'checkpoint, a diffusers folder, or "tiny"'
            )
    try:
        check_run_name(job.name)
    except ValueError as error:
        raise ValueError(f"{where} [output] {error}") from error


def settings_of(table: TrainingTable) -> dict[str, Any]:
    """Return a table's values by name."""
    return {f.name: getattr(table, f.name) for f in fields(table)}
