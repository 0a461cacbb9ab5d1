"""Draw AutoTrustGO's properties P1 to P7 for docs/optimizers.md; run it after changing its formula.

python tools/draw_optimizer_properties.py

The experiments are those of tests/unit/optim/experiments.py, whose results tests assert.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "unit" / "optim")]

import experiments as lab  # noqa: E402

from trustopt.signals import Signals  # noqa: E402
from trustopt.signals.export import write_png  # noqa: E402
from trustopt.signals.plots import plot_signals  # noqa: E402

PICTURES = ROOT / "docs" / "images" / "optimizers"
DRIFT = 0.3
"""Of the gradients, times their noise: what a LoRA's look like in the middle of a run."""


def curve(name: str, every: int = 1, **columns: Tensor) -> Signals:
    """Return values after each step as a run of that name; underscores become spaces."""
    values = {key.replace("_", " "): column.double().numpy() for key, column in columns.items()}
    length = len(next(iter(values.values())))
    return Signals(name, {"step": np.arange(1, length + 1, dtype=np.int64) * every, **values})


def p1() -> list[Signals]:
    """Return how far the parameters travel at three trust levels."""
    return [
        curve(f"trust_level {trust}", path_length_in_lr=travelled(lab.ours(trust)))
        for trust in (0.3, 0.4, 0.5)
    ]


def travelled(make: lab.Make) -> Tensor:
    """Return the length of the way so far, of an average element and in units of AdamW's lr."""
    places = lab.walk(make, lab.noisy_gradients(DRIFT), 200)
    return in_lr(lab.step_lengths(places).cumsum(0), places)


def in_lr(lengths: Tensor, places: Tensor) -> Tensor:
    """Return L2 lengths as the root mean square over elements, in units of AdamW's lr."""
    return lengths / (lab.ADAMW_LR * places.shape[1] ** 0.5)


def p2() -> list[Signals]:
    """Return displacements against AdamW's, and with gradients a thousandth as large."""
    ways = {
        "AdamW, lr 1e-4": (lab.adamw, 1.0),
        "AutoTrustGO, lr 1.25e-4": (lab.ours(), 1.0),
        "AutoTrustGO, gradients x 0.001": (lab.ours(), 1e-3),
    }
    runs = []
    for name, (make, scale) in ways.items():
        places = lab.walk(make, lab.noisy_gradients(DRIFT, scale), 120)[1:]
        runs.append(curve(name, displacement_in_lr=in_lr(places.norm(dim=1), places)))
    return runs


def p3() -> list[Signals]:
    """Return the way of steady and of alternating elements, with and without their memory."""
    constant, alternating = lab.constant_and_alternating(shuffled=False)
    _, shuffled = lab.constant_and_alternating(shuffled=True)
    return [
        curve("gradient 1, 1, 1, 1", way=constant),
        curve("gradient 3, -1, 3, -1", way=alternating),
        curve("3, -1, 3, -1, memory shuffled", way=shuffled),
    ]


def p4() -> list[Signals]:
    """Return the length of each step around a gradient a hundred times too large."""
    lengths, calm = lab.spike_steps(DRIFT)
    return [
        curve("gradient of step 101 is 100 times larger", step_length=lengths),
        curve("calm step", step_length=torch.full_like(lengths, calm)),
    ]


def p5() -> list[Signals]:
    """Return the courses on tasks that can be memorised."""
    courses = {name: lab.memorise(make) for name, make in lab.MEMORISERS.items()}
    return [
        curve(
            name,
            every=10,
            training_loss=course.training.mean(1),
            held_out_loss=course.held_out.mean(1),
        )
        for name, course in courses.items()
    ]


def p6() -> list[Signals]:
    """Return the way of small steady elements."""
    makes = {"AdamW": lab.adamw, "AutoTrustGO, equal lr": lab.ours(lr=lab.ADAMW_LR)}
    return [curve(name, way=lab.small_ways(make, DRIFT)[1:]) for name, make in makes.items()]


def p7() -> list[Signals]:
    """Return the update norm from a cold start, and with the state of a long run."""
    warm = lab.step_lengths(lab.walk(lab.ours(), lab.noisy_gradients(DRIFT), 200))
    return [
        curve("from a cold start", step_length=warm[:100]),
        curve("with the memory of 100 steps", step_length=warm[100:]),
    ]


EXPERIMENTS = {"p1": p1, "p2": p2, "p3": p3, "p4": p4, "p5": p5, "p6": p6, "p7": p7}


def main(names: Sequence[str]) -> None:
    """Draw the experiments named, or all."""
    torch.set_num_threads(1)
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name in names or EXPERIMENTS:
        picture = plot_signals(EXPERIMENTS[name](), size=(800, 420), smoothing=0.0)
        write_png(PICTURES / f"{name}.png", picture)
        print(PICTURES / f"{name}.png")


if __name__ == "__main__":
    main(sys.argv[1:])
