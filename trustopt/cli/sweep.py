"""``trustopt sweep``: one job file trained in many ways, by whatever runs jobs already.

The sweep is a list. It is worked off here, one run after the other; or a scheduler's array takes
one number each (``--index``); or another launcher takes the command lines (``--commands``).
"""

import argparse
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from . import train
from .exit_codes import FINISHED
from .sweep_file import EXAMPLE, Sweep, SweepJob, read_sweep_file
from .sweep_state import state_of, write_down
from .sweep_worker import commands_of, work_off

ARRAY_VARIABLES = (
    "SLURM_ARRAY_TASK_ID",
    "PBS_ARRAY_INDEX",
    "PBS_ARRAYID",
    "SGE_TASK_ID",
    "LSB_JOBINDEX",
)
"""Where Slurm, PBS Professional, Torque, Grid Engine and LSF put a task's number."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("sweep", nargs="?", type=Path, help="the sweep file")
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument(
        "--example", action="store_true", help="print a sweep file to start from, and leave"
    )
    ways.add_argument("--list", action="store_true", help="show the runs and what became of them")
    ways.add_argument(
        "--commands",
        action="store_true",
        help="print the command line of each run that is not finished, for another launcher",
    )
    ways.add_argument(
        "--index",
        metavar="N|auto",
        help="train run N alone, counted from 1; auto: the number of a scheduler's array task",
    )
    parser.add_argument(
        "--launch",
        default="",
        metavar="COMMAND",
        help="with --commands: what each line begins with, for example 'torchrun --standalone "
        "--nproc-per-node 4'",
    )


def run(arguments: argparse.Namespace) -> int:
    """Train what a sweep file lists, or say what it lists.

    Raises:
        ValueError: If the sweep file is missing, or something in one of its runs is not allowed.
    """
    if arguments.example:
        print(EXAMPLE, end="")
        return FINISHED
    if arguments.sweep is None:
        raise ValueError("name a sweep file; trustopt sweep --example prints one to start from")
    sweep = read_sweep_file(arguments.sweep)
    if arguments.launch and not arguments.commands:
        raise ValueError(
            "--launch goes with --commands, which prints command lines for a shell: trustopt sweep "
            f"{arguments.sweep} --commands --launch {shlex.quote(arguments.launch)} | sh"
        )
    if arguments.list:
        print(listing(sweep))
        return FINISHED
    if arguments.commands:
        print(*map(shlex.join, commands_of(sweep, shlex.split(arguments.launch))), sep="\n")
        return FINISHED
    if arguments.index is not None:
        return train_one(sweep.jobs[index_of(arguments.index, len(sweep.jobs)) - 1])
    refuse_launched(sweep)
    return work_off(sweep)


def listing(sweep: Sweep) -> str:
    """Return the runs with number, state, name and values, one a line."""
    width = sweep.widest_name
    lines = [f"{'run':>4}  {'state':<9}  {'name':<{width}}  values"]
    for job in sweep.jobs:
        own = " ".join(s for s in job.settings if not s.startswith("output.name="))
        lines.append(f"{job.number:>4}  {state_of(job):<9}  {job.name:<{width}}  {own}".rstrip())
    return "\n".join(lines)


def index_of(text: str, count: int) -> int:
    """Return the number of a run.

    Args:
        text: The number, or ``auto``.
        count: Of the runs.

    Raises:
        ValueError: If it is none of them, or no scheduler says which.
    """
    if text == "auto":
        found = [name for name in ARRAY_VARIABLES if os.environ.get(name, "").isdecimal()]
        if not found:
            raise ValueError(
                "--index auto needs the number of a scheduler's array task, and none of "
                f"{', '.join(ARRAY_VARIABLES)} is set: start it as an array, or give a number"
            )
        text = os.environ[found[0]]
    if not (text.isdecimal() and 1 <= int(text) <= count):
        raise ValueError(
            f"--index must be a number from 1 to {count}, the runs of this sweep, got {text}: "
            f"an array of all of them is 1-{count}"
        )
    return int(text)


def train_one(job: SweepJob) -> int:
    """Train one run in this process, under its launcher if it has one, and return the exit code.

    Raises:
        ValueError: As ``trustopt train`` does.
    """
    state = state_of(job)
    if state == "finished":
        print(f"run {job.number}, {job.name}, is finished already")
        return FINISHED
    if os.environ.get("RANK", "0") == "0":
        write_down(job)
    settings = [*job.settings, *(["output.resume=true"] if state == "part-way" else [])]
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    return train.run(parser.parse_args(train_arguments(job.file.path, settings)))


def train_arguments(file: Path, settings: Sequence[str]) -> list[str]:
    """Return what ``trustopt train`` is to be given."""
    return [str(file), *(f"--set={setting}" for setting in settings)]


def refuse_launched(sweep: Sweep) -> None:
    """Check that this is one process.

    Raises:
        ValueError: If a launcher started several: each would work off the list.
    """
    count = int(os.environ.get("WORLD_SIZE") or 1)
    if count > 1:
        raise ValueError(
            f"a launcher started {count} processes, and each would work off the whole sweep: "
            f"launch one run with --index, or all of them with trustopt sweep {sweep.path} "
            f"--commands --launch 'torchrun --nproc-per-node {count}' | sh"
        )
