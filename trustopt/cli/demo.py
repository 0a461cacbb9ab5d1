"""``trustopt demo``: the whole path in a minute or two, on any machine, with nothing downloaded."""

import argparse
from pathlib import Path

from ..plan import FAMILIES

STEPS = 500
"""A minute or two on two cores."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--family", choices=FAMILIES, default="sdxl", help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=STEPS, help="default: %(default)s")
    parser.add_argument(
        "--optimizer",
        default="autotrustgo",
        metavar="NAME",
        help="autotrustgo, emonavi, emolynx, adamw, ...; default: %(default)s",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("trustopt-demo"),
        metavar="FOLDER",
        help="a new folder for the results, numbered if it exists; default: %(default)s",
    )
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")


def run(arguments: argparse.Namespace) -> int:
    """Train the tiny model on the bundled pictures.

    Raises:
        ValueError: If an argument is not allowed.
    """
    from .demo_job import demo

    return demo(
        family=arguments.family,
        steps=arguments.steps,
        optimizer=arguments.optimizer,
        out=arguments.out,
        seed=arguments.seed,
    )
