"""``trustopt bench speed``: the performance report, all benchmarks of speed in one run.

The optimizer step against torch's AdamW, the training step against a plain loop, its growth with
batch, rank, and size, loading and caching, a long run, and start-up. ComfyUI's own training node
is compared by ``tools/bench_comfyui.py``, which runs in ComfyUI's interpreter.
"""

import argparse
import contextlib
import io
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from . import bench_data, bench_optim, bench_steps, bench_train
from .growth import Point, print_growth
from .start_up import import_seconds


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        rounds: Timed steps of each contender.
        model: Which of ``bench_train.LAYOUTS`` takes the training steps.
        pixels: Side of its pictures.
        images: Pictures of the large set.
        steps: Of the long run.
        optimizers: Rows of the optimizers' table whose name contains this.
    """

    rounds: int
    model: str
    pixels: int
    images: int
    steps: int
    optimizers: str = ""


WHOLE = Size(rounds=5, model="medium", pixels=256, images=1024, steps=2000)
QUICK = Size(rounds=1, model="tiny", pixels=64, images=8, steps=20, optimizers="emolynx")


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark and return 0."""
    parser = argparse.ArgumentParser(prog="trustopt bench speed", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="try everything on a tiny network")
    parser.add_argument("--device", default="cpu", help="of the optimizers and training steps")
    parser.add_argument("--out", type=Path, help="also write the report into this Markdown file")
    given = parser.parse_args(arguments)
    if given.out is not None and not given.out.parent.is_dir():
        parser.error(f"--out: there is no folder {given.out.parent}: make it first")
    torch.set_num_threads(1)
    report = [heading(given.device)]
    print(report[0], flush=True)
    for title, section in sections(QUICK if given.quick else WHOLE, given.device).items():
        print(f"\n== {title}", flush=True)
        report.append(f"## {title}\n\n```\n{printed_by(section).rstrip()}\n```\n")
    if given.out is not None:
        given.out.write_text("\n".join(report), encoding="utf-8")
        print(f"\nwritten to {given.out}")
    return 0


def heading(device: str) -> str:
    """Return what every figure depends on, in a line."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.machine()
    return (
        f"Python {platform.python_version()}, torch {torch.__version__}, {device} ({name}); on a "
        "CPU one thread and its processor time.\n"
    )


def sections(size: Size, device: str) -> dict[str, Callable[[], object]]:
    """Return the report's sections: a title, and what prints it."""
    rounds = ["--rounds", str(size.rounds)]
    optimizer = [*rounds, "--device", device, "--only", size.optimizers]
    step = ["--model", size.model, "--pixels", str(size.pixels), *rounds, "--device", device]
    base = Point(pixels=size.pixels)
    return {
        "Optimizer step, many small matrices": lambda: bench_optim.main(
            ["--set", "launch", *optimizer]
        ),
        "Optimizer step, SDXL's matrices": lambda: bench_optim.main(optimizer),
        "Training step against a plain loop": lambda: bench_train.main(step),
        "Growth of a training step": lambda: print_growth(
            bench_train.LAYOUTS[size.model], base, size.rounds, torch.device(device)
        ),
        "Loading, caching, growth with pictures": lambda: bench_data.main(
            ["--images", str(size.images)]
        ),
        "A long run": lambda: bench_steps.main(["--steps", str(size.steps)]),
        "Start-up, processor seconds": print_start_up,
    }


def print_start_up() -> None:
    """Print how long the imports take."""
    for stage, seconds in import_seconds().items():
        print(f"{stage:<24} {seconds:>6.2f}")


def printed_by(section: Callable[[], object]) -> str:
    """Run a section; return what it prints, which is shown at once as well."""
    copy = Copy()
    with contextlib.redirect_stdout(copy):
        section()
    return copy.getvalue()


class Copy(io.StringIO):
    """Keeps what is printed and passes it on."""

    def __init__(self) -> None:
        super().__init__()
        self.shown = sys.stdout

    def write(self, text: str) -> int:
        """Keep and show a text."""
        self.shown.write(text)
        self.shown.flush()
        return super().write(text)
