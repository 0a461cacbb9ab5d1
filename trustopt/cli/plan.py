"""``trustopt plan``: what the presets would do, before any model is loaded."""

import argparse
from pathlib import Path

from ..plan import FAMILIES, PURPOSES, VALUES, TrainPlan, make_plan, toast_text
from .job_file import put


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("images", help="a folder of pictures, or how many there are")
    parser.add_argument("--family", choices=FAMILIES, default="sdxl", help="default: %(default)s")
    parser.add_argument(
        "--purpose", choices=PURPOSES, default="character", help="default: %(default)s"
    )
    parser.add_argument(
        "--optimizer",
        default="",
        metavar="NAME",
        help="also show what this optimizer makes of the plan (autotrustgo, emonavi, adamw, ...)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"a value of your own, for example rank=32; keys: {', '.join(VALUES)}",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the plan.

    Raises:
        ValueError: If the folder, a value or the optimizer is not usable.
    """
    plan = plan_of(arguments)
    print(plan.summary())
    if arguments.optimizer:
        from ..config import OptimizerConfig
        from ..train.plan_job import resolve

        print()
        print(toast_text(plan, resolve(plan, OptimizerConfig(name=arguments.optimizer))))
    return 0


def plan_of(arguments: argparse.Namespace) -> TrainPlan:
    """Return the plan for a count, or for a folder whose pictures are read."""
    tables: dict = {}
    for setting in arguments.set:
        put(tables, f"plan.{setting}")
    choice = {
        "family": arguments.family,
        "purpose": arguments.purpose,
        "overrides": tables.get("plan", {}),
    }
    if arguments.images.isdecimal():
        return make_plan(int(arguments.images), **choice)
    from ..data import scan_folder
    from ..train.plan_images import plan_images

    images = scan_folder(Path(arguments.images))
    print(f"{images.report()}\n")
    return plan_images(images, **choice)
