"""How long a step took in earlier runs: the only honest estimate of the next one."""

from pathlib import Path
from typing import Any

import numpy as np

from ..trustopt.plan import TrainPlan
from ..trustopt.signals.recorder import load_signals
from .places import output_folders
from .routes import read_json

FEWEST_STEPS = 3
"""The first steps are slower than the rest: fewer tell nothing."""


def seconds_per_step(model_name: str, plan: TrainPlan) -> float | None:
    """Return the median time of a step in the newest run like the planned one; None without any.

    Args:
        model_name: As ``Host.identity`` names the model.
        plan: Alike are runs of the same model, resolution and batch.
    """
    jobs = output_folders().runs.glob("[!.]*/job.json")
    for job in sorted(jobs, key=lambda path: path.stat().st_mtime, reverse=True):
        if is_alike(read_json(job), model_name, plan):
            seconds = measured(job.with_name("signals.jsonl"))
            if seconds is not None:
                return seconds
    return None


def is_alike(job: dict[str, Any], model_name: str, plan: TrainPlan) -> bool:
    """Return whether a run's steps cost what the plan's would."""
    model = job.get("fingerprint", {}).get("model", {})
    work = (job.get("batch_size"), job.get("accumulation"), job.get("data", {}).get("resolution"))
    return model.get("name") == model_name and work == (
        plan.batch_size,
        plan.accumulation,
        plan.resolution,
    )


def measured(signals: Path) -> float | None:
    """Return the median seconds of a run's steps, the first left out; None for a short run."""
    try:
        seconds = load_signals(signals).series("seconds")[1:]
    except ValueError:  # it has not taken its first step
        return None
    seconds = seconds[np.isfinite(seconds)]
    return float(np.median(seconds)) if len(seconds) >= FEWEST_STEPS else None
