"""What has become of a sweep's runs: a sweep begun again goes on where it was.

Beside the runs' folders lies ``<run>.sweep.json``, written before a run begins: what it was asked
to do. Without it a run that is done could not be told from one that is to be done otherwise.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ..train.folders import Folders, find_run, write_text
from .job_file import JobFile, parse_with
from .sweep_file import SweepJob, flatten

State = Literal["new", "part-way", "finished", "not good"]

FREE = ("output.resume", "output.anyway", "output.tensorboard", "model.device")
"""May differ when a run goes on: they do not change what is trained."""


def state_of(job: SweepJob) -> State:
    """Return what has become of a run.

    ``part-way`` has a saved state to go on from; ``not good`` was trained to its end, but its LoRA
    file is faulty.

    Raises:
        ValueError: If it was begun with other values than the sweep has now.
    """
    run = find_run(folders_of(job.file), job.name)
    if run is None:
        return "new"
    check_same(job)
    ending = run.read_json("result.json").get("status")
    if ending == "finished":
        return "finished" if run.lora.exists() else "part-way"
    return "not good" if ending == "faulty" else "part-way"


def write_down(job: SweepJob) -> None:
    """Note what a run is asked to do, before it begins."""
    asked = values_of(job)
    place = record_of(job.file)
    place.parent.mkdir(parents=True, exist_ok=True)
    write_text(place, json.dumps(asked, indent=2, ensure_ascii=False) + "\n")


def check_same(job: SweepJob) -> None:
    """Check that a run was begun with the values that it has now.

    Raises:
        ValueError: If not; the message says what differs.
    """
    place = record_of(job.file)
    if not place.exists():
        return
    then: Mapping[str, Any] = json.loads(place.read_text(encoding="utf-8"))
    now = values_of(job)
    changed = [key for key in sorted(then.keys() | now.keys()) if then.get(key) != now.get(key)]
    if changed:
        key = changed[0]
        raise ValueError(
            f"run {job.name} exists with {key} = {then.get(key)!r}, and now it is "
            f"{now.get(key)!r}: give the sweep's job another output.name or output.runs, or remove "
            f"{place.name} and the run's folder"
        )


def values_of(job: SweepJob) -> dict[str, Any]:
    """Return all values of a run's job by dotted name, those left out that may differ."""
    # Through JSON, so that they compare with what was read from it.
    flat = json.loads(json.dumps(flatten(parse_with(job.file.path, job.settings)), default=str))
    return {key: value for key, value in flat.items() if key not in FREE}


def record_of(file: JobFile) -> Path:
    """Return the place of a run's note."""
    return file.locate(file.output.runs) / f"{file.name}.sweep.json"


def folders_of(file: JobFile) -> Folders:
    """Return the folders a job writes to."""
    return Folders(loras=file.locate(file.output.loras), runs=file.locate(file.output.runs))
