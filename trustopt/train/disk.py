"""The disk plan: what a run will write, held against what is free, before any work is done."""

import os
import shutil
from pathlib import Path

from ..adapters import AdapterSet
from .folders import Folders, saved_steps
from .job import Job
from .lora_file import file_dtype
from .preflight import MemoryPlan, gib


def check_space(job: Job, adapters: AdapterSet, memory: MemoryPlan, state: Path | None) -> None:
    """Refuse a run whose saved states and LoRA will not fit on the disk.

    Args:
        job: The job.
        adapters: What it trains.
        memory: Its memory plan: a state holds adapters, their average, and the optimizer's state.
        state: The state folder of the run that is resumed, if one is.

    Raises:
        ValueError: If it does not fit; the first line says how much is missing and what would help.
    """
    there = saved_steps(state) if state is not None else []
    done = int(there[-1]) if there else 0
    lora = file_dtype(job.config, job.host).itemsize * adapters.num_parameters
    each = memory.adapters + memory.optimizer + lora
    count = states_to_come(job, done, len(there))
    for folder, needed in needed_bytes(job.folders, count * each, lora).items():
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise ValueError(
                f"this run writes {gib(needed)} to {folder} ({count} saved states of {gib(each)}, "
                f"and the LoRA), and {gib(free)} are free: free disk space, lower keep_last, or "
                "choose another output folder"
            )


def states_to_come(job: Job, done: int, there: int) -> int:
    """Return by how many saved states the disk will grow at most; the oldest make room.

    Args:
        job: The job.
        done: Steps done already.
        there: States on disk already.
    """
    config = job.config
    left = max(1, config.steps - done)
    saves = -(-left // config.save_every) if config.save_every else 1
    # A state is whole before the oldest goes.
    return max(1, min(there + saves, config.keep_last + 1) - there)


def needed_bytes(folders: Folders, states: int, lora: int) -> dict[Path, int]:
    """Return what is written to each disk, by one of the folders on it."""
    needed: dict[int, tuple[Path, int]] = {}
    for folder, count in ((folders.runs, states), (folders.loras, lora)):
        device = os.stat(folder).st_dev
        first, before = needed.get(device, (folder, 0))
        needed[device] = (first, before + count)
    return dict(needed.values())
