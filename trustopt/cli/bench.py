"""``trustopt bench NAME``: run one of the benchmarks, each a module ``bench_<name>.py``."""

import argparse
import importlib
import pkgutil
from pathlib import Path

PREFIX = "bench_"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("name", choices=names(), help="which benchmark")
    parser.add_argument(
        "rest",
        nargs=argparse.REMAINDER,
        metavar="...",
        help="its own arguments (--help lists them)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the benchmark and return its exit code."""
    return importlib.import_module(f".{PREFIX}{arguments.name}", __package__).main(arguments.rest)


def names() -> list[str]:
    """Return the benchmarks there are, without importing any."""
    modules = pkgutil.iter_modules([str(Path(__file__).parent)])
    return sorted(m.name.removeprefix(PREFIX) for m in modules if m.name.startswith(PREFIX))
