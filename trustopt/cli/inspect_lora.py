"""``trustopt inspect FILE``: what is in a LoRA file."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("file", type=Path, help="a LoRA .safetensors of any tool")


def run(arguments: argparse.Namespace) -> int:
    """Print the report.

    Raises:
        ValueError: If the file cannot be read or holds no LoRA.
    """
    from ..adapters import inspect_lora

    print(inspect_lora(arguments.file))
    return 0
