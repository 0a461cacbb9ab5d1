"""``trustopt bench parts``: what becomes of a training in stages, or in parts merged afterwards.

The style task of ``bench style``, its pictures in two halves. Whole: all steps on all pictures.
Resumed: half of the steps on one half, then the others on the other half, with the optimizer's
state. Stacked: the same, with a new optimizer. Mean and sum: half of the steps on each half, both
from the start and without knowing of each other; their LoRAs are then merged with weights 1/2 or 1.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..hosts.loading import load_tiny
from ..optim import OPTIMIZERS
from .demo_job import one_thread
from .style_bench import tasks
from .style_bench.contest import CONTENDERS, trials
from .style_bench.parts import Parts
from .style_bench.table import interval
from .style_bench.tasks import read_task

WAYS = ("first half", "whole", "resumed", "stacked", "mean", "sum")


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark and return 0."""
    given = parsed(arguments)
    task = read_task(given.pictures, trained=given.trained, held_out=given.held_out)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with one_thread():
        host = load_tiny("sdxl")
        for seed in range(given.seeds):
            for name in contenders(given.only):
                if (name, seed) in {(r["contender"], r["seed"]) for r in read(given)}:
                    continue
                (trial,) = trials(name, [seed], 1, given.steps)
                with tempfile.TemporaryDirectory() as folder:
                    losses = Parts(trial, task, host, Path(folder)).losses()
                result = {"contender": name, "seed": seed, "steps": given.steps, "losses": losses}
                with given.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(result) + "\n")
                numbers = ", ".join(f"{way} {losses[way]:.4f}" for way in WAYS)
                print(f"{name:<16} lr {trial.lr:<8.2g} seed {seed}: {numbers}", flush=True)
    print(table(read(given)))
    return 0


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the command's arguments."""
    parser = argparse.ArgumentParser(prog="trustopt bench parts", description=__doc__)
    tasks.add_arguments(parser)
    parser.add_argument("--out", type=Path, default=Path("parts.jsonl"), help="results go here")
    parser.add_argument("--steps", type=int, default=60, help="of the whole")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="contenders with one of these names, by comma")
    return parser.parse_args(arguments)


def contenders(only: str) -> list[str]:
    """Return the contenders that are wanted and installed."""
    wanted = [name.strip() for name in only.split(",")] if only else list(CONTENDERS)
    return [name for name in wanted if OPTIMIZERS[CONTENDERS[name].optimizer].is_available]


def read(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Return what is done so far, of this length."""
    if not given.out.exists():
        return []
    lines = given.out.read_text(encoding="utf-8").splitlines()
    return [r for r in map(json.loads, lines) if r["steps"] == given.steps]


def table(results: Sequence[dict[str, Any]]) -> str:
    """Return held-out losses by optimizer and way, with 95 % intervals over seeds."""
    lines = ["| optimizer | " + " | ".join(WAYS) + " |", "|---" * (len(WAYS) + 1) + "|"]
    for name in dict.fromkeys(r["contender"] for r in results):
        own = [r["losses"] for r in results if r["contender"] == name]
        cells = []
        for way in WAYS:
            mean, half = interval([losses[way] for losses in own])
            cells.append(f"{mean:.4f}" + ("" if half is None else f" ± {half:.4f}"))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
