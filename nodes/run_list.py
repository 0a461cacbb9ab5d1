"""A line for each run, from the files in its folder: what a browser lists.

Hundreds of runs are listed again and again, so a run is read again only when a file of it changes.
"""

import json
import logging
import math
import os
import threading
from pathlib import Path
from typing import Any

from ..trustopt.train.sample_folder import INDEX, read_index
from .origin import PLAN_FILE
from .places import lora_of_run, output_folders
from .runs import GRAPH_FILE, active_runs

logger = logging.getLogger("trustopt")

TAIL = 1 << 16
"""Bytes at the end of a signals file that are read: some forty steps."""

MOST_SAMPLES = 4
"""More are small in a list."""

Stamp = tuple[tuple[int, int] | None, ...]
"""Time and size of each file that an entry is made of, None where it is absent."""

_entries: dict[str, tuple[Stamp, dict[str, Any]]] = {}
_lock = threading.Lock()


def list_runs() -> list[dict[str, Any]]:
    """Return every run on disk and those under way, the newest first.

    Each has ``run_id``, ``status`` (see ``status``), ``step`` of ``steps``, ``time`` (Unix time of
    its last step), ``loss`` (mean of its last steps), ``family``, ``model``, ``purpose``,
    ``preset``, ``images``, ``optimizer``, ``algorithm``, ``rank``, ``samples`` (file names of the
    newest sample pictures) and ``samples_time`` (Unix time of these), ``lora`` (file name), and
    ``node`` and ``workflow``, the ids of what trained it; None where that is not known.
    """
    folders = [path.parent for path in output_folders().runs.glob("[!.]*/job.json")]
    folders.sort(key=lambda folder: last_change(folder / "job.json"), reverse=True)
    active = {run.run_id: run for run in active_runs()}
    listed = []
    for folder in folders:
        entry = {**entry_of(folder), "status": status(folder)}
        if folder.name in active:
            entry["step"] = active[folder.name].step
        listed.append(entry)
    forget_all_but({folder.name for folder in folders})
    return listed


def status(folder: Path) -> str:
    """Return ``training``, ``finished``, ``stopped``, ``interrupted`` or ``unknown`` (a crash)."""
    if any(run.run_id == folder.name for run in active_runs()):
        return "training"
    return str(read_json(folder / "result.json").get("status", "unknown"))


def entry_of(folder: Path) -> dict[str, Any]:
    """Return a run's line but for its status, read again only if a file of it has changed."""
    stamp = stamp_of(folder)
    with _lock:
        known = _entries.get(folder.name)
    if known is None or known[0] != stamp:
        known = stamp, read_entry(folder)
        with _lock:
            _entries[folder.name] = known
    return known[1]


def read_entry(folder: Path) -> dict[str, Any]:
    """Read a run's line from its files."""
    job, plan = read_json(folder / "job.json"), read_json(folder / PLAN_FILE)
    graph = read_json(folder / GRAPH_FILE)
    lora = lora_of_run(folder.name)
    signals = folder / "signals.jsonl"
    step, loss = newest_step(signals)
    return {
        "run_id": folder.name,
        "step": step,
        "steps": job.get("steps"),
        "loss": loss,
        "time": last_change(signals) or last_change(folder / "job.json"),
        "family": value_at(job, "fingerprint", "model", "family"),
        "model": value_at(job, "fingerprint", "model", "name"),
        "optimizer": value_at(job, "optimizer", "name"),
        "algorithm": value_at(job, "adapter", "algorithm"),
        "rank": value_at(job, "adapter", "rank"),
        "purpose": plan.get("purpose"),
        "preset": plan.get("preset"),
        "images": plan.get("num_images"),
        "samples": newest_samples(folder / "samples"),
        "samples_time": last_change(folder / "samples" / INDEX),
        "lora": None if lora is None else lora.name,
        "node": graph.get("node"),
        "workflow": graph.get("workflow"),
    }


def newest_step(signals: Path) -> tuple[int | None, float | None]:
    """Return the last recorded step, and the mean loss of the last ones; None if there is none."""
    step, losses = None, []
    for line in tail(signals):
        try:
            row = json.loads(line)
            if "event" in row:
                continue
            step, loss = int(row["step"]), float(row.get("loss", "NaN"))
        except (ValueError, KeyError, TypeError):  # torn, or another's
            continue
        if math.isfinite(loss):
            losses.append(loss)
    return step, sum(losses) / len(losses) if losses else None


def tail(path: Path) -> list[bytes]:
    """Return the whole lines in the last part of a file; none if it is not there."""
    if not path.is_file():
        return []
    with path.open("rb") as file:
        start = max(0, file.seek(0, os.SEEK_END) - TAIL)
        file.seek(start)
        lines = file.read().split(b"\n")
    return lines[1:-1] if start else lines[:-1]


def newest_samples(folder: Path) -> list[str]:
    """Return the names of the sample pictures of the newest step, some at most."""
    pictures = read_index(folder)
    return [p.file for p in pictures if p.step == pictures[-1].step][:MOST_SAMPLES]


def stamp_of(folder: Path) -> Stamp:
    """Return what changes when a file of a run does."""
    names = ("job.json", PLAN_FILE, GRAPH_FILE, "signals.jsonl", f"samples/{INDEX}")
    return tuple(time_and_size(path) for path in (*(folder / n for n in names), lora_path(folder)))


def lora_path(folder: Path) -> Path:
    """Return where a run's LoRA is, or would be."""
    return output_folders().loras / f"{folder.name}.safetensors"


def time_and_size(path: Path) -> tuple[int, int] | None:
    """Return a file's time and size; None if it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def last_change(path: Path) -> float:
    """Return the Unix time of a file's last change; 0 if it is not there."""
    found = time_and_size(path)
    return 0.0 if found is None else found[0] / 1e9


def forget_all_but(names: set[str]) -> None:
    """Forget runs that are gone."""
    with _lock:
        for name in _entries.keys() - names:
            del _entries[name]


def read_json(path: Path) -> dict[str, Any]:
    """Return a file's object; what is absent or broken is empty: it must not hide other runs."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        logger.warning("%s cannot be read: %s", path, error)
        return {}
    return value if isinstance(value, dict) else {}


def value_at(value: Any, *keys: str) -> Any:
    """Return a value inside objects inside each other; None if one is not there."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
