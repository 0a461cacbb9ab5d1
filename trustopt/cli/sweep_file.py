"""The TOML face of a sweep: one job file, and what is to be different in each of its runs.

``job`` names the job file. Each combination of the values in ``[grid]`` is a run; each
``[[jobs]]`` table is one more set of values, with every combination of the grid.
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .job_file import JobFile, parse, read_job_file
from .toml_text import toml_value

KEYS = ("job", "grid", "jobs")

LONGEST_NAME = 120
"""Characters of a run's name; longer ones are numbered instead, as files have limits."""

EXAMPLE = """\
job = "job.toml"                 # what all runs share; paths start at this file's folder

[grid]                           # every combination of these is a run
"optimizer.name" = ["autotrustgo", "adamw"]
"plan.lr" = [1e-4, 2e-4]

# [[jobs]]                       # sets of values that belong together; each with the whole grid
# "plan.rank" = 16
# "plan.alpha" = 8
"""

Values = dict[str, Any]
"""``table.key`` -> value."""


@dataclass(frozen=True)
class SweepJob:
    """One run of a sweep.

    Attributes:
        number: From 1.
        values: What differs from the job file, its name included.
        file: The job file with these values.
    """

    number: int
    values: Values
    file: JobFile

    @property
    def name(self) -> str:
        """Of the run and of its LoRA."""
        return self.file.name

    @property
    def settings(self) -> list[str]:
        """The values as ``trustopt train --set`` takes them."""
        return [f"{key}={toml_value(value)}" for key, value in self.values.items()]


@dataclass(frozen=True)
class Sweep:
    """A sweep file's content, checked."""

    path: Path
    job: Path
    """The job file."""
    jobs: tuple[SweepJob, ...]

    @property
    def widest_name(self) -> int:
        """Characters of the longest name of a run."""
        return max(len(job.name) for job in self.jobs)


def read_sweep_file(path: Path) -> Sweep:
    """Read a sweep file, and check the job file with each run's values.

    Raises:
        ValueError: If the file is missing or no TOML, a key is unknown, a run's job is not
            allowed, or two runs are the same; the message names file, run and key.
    """
    tables = parse(path, kind="sweep file", example="sweep")
    where = path.name
    for name in tables:
        if name not in KEYS:
            raise ValueError(f"{where} does not know {name!r}; it knows {', '.join(KEYS)}")
    if not isinstance(tables.get("job"), str) or not tables["job"]:
        raise ValueError(f'{where} lacks the job file that its runs share: job = "job.toml"')
    job = path.parent / Path(tables["job"]).expanduser()
    base = read_job_file(job)
    runs = list(_runs(tables, where))
    _refuse_twins([values for values, _ in runs], where)
    names = _names(base.name, runs)
    jobs = []
    for number, ((values, _), name) in enumerate(zip(runs, names, strict=True), start=1):
        named = {**values, "output.name": name}
        jobs.append(SweepJob(number, named, _checked(job, named, f"{where}, run {number}")))
    return Sweep(path, job, tuple(jobs))


def _runs(tables: Mapping[str, Any], where: str) -> Iterator[tuple[Values, list[str]]]:
    """Yield each run's values, and the words that tell it from others."""
    sets = tables.get("jobs", [{}])
    if not isinstance(sets, list) or not sets or not all(isinstance(s, dict) for s in sets):
        raise ValueError(f"{where} jobs must be tables, each begun with [[jobs]]")
    grid = tables.get("grid", {})
    if not isinstance(grid, dict):
        raise ValueError(f"{where} grid must be a table [grid], got {grid!r}")
    axes = flatten(grid)
    for key, choices in axes.items():
        if not isinstance(choices, list) or not choices:
            raise ValueError(
                f"{where} [grid] {key} must be a list of the values to try, got {choices!r}"
            )
    for key in axes.keys() & {key for own in sets for key in flatten(own)}:
        raise ValueError(f"{where} sets {key} in [grid] and in [[jobs]]: keep one of the two")
    for position, own in enumerate(sets, start=1):
        own_values = flatten(own)
        own_words = [word(key, value, position) for key, value in own_values.items()]
        for picks in itertools.product(*(list(enumerate(c, start=1)) for c in axes.values())):
            picked = dict(zip(axes, picks, strict=True))
            values = own_values | {key: value for key, (_, value) in picked.items()}
            words = [word(key, value, index) for key, (index, value) in picked.items()]
            yield values, own_words + words


def flatten(table: Mapping[str, Any], prefix: str = "") -> Values:
    """Return a table's values by dotted name: ``"plan.lr" = 1`` and ``[plan] lr = 1`` alike."""
    flat: Values = {}
    for key, value in table.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


def word(key: str, value: Any, position: int) -> str:
    """Return what a value adds to a run's name; none for the name itself."""
    last = key.rpartition(".")[2]
    if key.startswith("output."):
        return "" if last in ("name", "loras", "runs", "cache") else f"{last}_{value}"
    if isinstance(value, str):
        return Path(value).stem if "/" in value else value or f"no_{last}"
    if isinstance(value, bool):
        return last if value else f"no_{last}"
    return f"{last}_{value}" if isinstance(value, int | float) else f"{last}_{position}"


def _names(base: str, runs: Sequence[tuple[Values, list[str]]]) -> list[str]:
    """Return a name for each run: that of its job, and what is different in it."""
    names = []
    for values, words in runs:
        parts = [str(values.get("output.name", base)), *filter(None, words)]
        names.append(re.sub(r"[^\w.-]+", "_", "-".join(parts)).strip("._-"))
    return [
        f"{name[:LONGEST_NAME]}-{number:03d}"
        if len(name) > LONGEST_NAME or names.count(name) > 1
        else name
        for number, name in enumerate(names, start=1)
    ]


def _refuse_twins(runs: Sequence[Values], where: str) -> None:
    """Check that no run is another one again.

    Raises:
        ValueError: If one is.
    """
    for number, values in enumerate(runs, start=1):
        first = runs.index(values) + 1
        if first != number:
            raise ValueError(
                f"{where}: runs {first} and {number} are the same ({values or 'nothing set'}): "
                "remove a value that is listed twice"
            )


def _checked(job: Path, values: Values, where: str) -> JobFile:
    """Read the job file with a run's values.

    Raises:
        ValueError: If it is not allowed; the message says in which run.
    """
    settings = [f"{key}={toml_value(value)}" for key, value in values.items()]
    try:
        return read_job_file(job, settings)
    except ValueError as error:
        raise ValueError(f"{where}: {error}".replace("--set ", "")) from error
