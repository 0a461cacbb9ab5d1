"""``trustopt train job.toml``: train a LoRA, or with ``--dry-run`` say what would be trained."""

import argparse
from pathlib import Path

from .example import EXAMPLE
from .job_file import read_job_file
from .launched import launched


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("job", nargs="?", type=Path, help="the job file")
    parser.add_argument(
        "--example", action="store_true", help="print a job file with every common key, and leave"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check everything, load the model, show plan, buckets and memory, and train nothing",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with the newest run of the job's name"
    )
    parser.add_argument(
        "--tensorboard", action="store_true", help="also write TensorBoard's event files"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="TABLE.KEY=VALUE",
        help="replace a value of the file, for example plan.steps=500; may be repeated",
    )


def run(arguments: argparse.Namespace) -> int:
    """Train as the job file says.

    Raises:
        ValueError: If the job file is missing or something in it cannot work.
    """
    if arguments.example:
        print(EXAMPLE, end="")
        return 0
    if arguments.job is None:
        raise ValueError("name a job file; trustopt train --example prints one to start from")
    wanted = [name for name in ("resume", "tensorboard") if getattr(arguments, name)]
    settings = [*arguments.set, *(f"output.{name}=true" for name in wanted)]
    with launched() as ranks:
        file = read_job_file(arguments.job, settings)
        # Torch and the model come after the job file is known to be right.
        from .train_job import dry_run, train

        return dry_run(file, ranks) if arguments.dry_run else train(file, ranks)
