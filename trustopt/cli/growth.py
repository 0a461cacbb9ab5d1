"""How a training step grows with the batch, the rank and the side of the pictures."""

from dataclasses import dataclass, replace

import torch

from ..config import AdapterConfig
from .bench_train import (
    MIB,
    Layout,
    data_for,
    diffusers_run,
    plain_run,
    random_network,
    with_weights_of,
)
from .contenders import peak_bytes, ratio, taken_in_turns


@dataclass(frozen=True)
class Point:
    """One setting of a step.

    Attributes:
        batch: Pictures.
        rank: Of every layer's LoRA.
        pixels: Side of the pictures.
    """

    batch: int = 1
    rank: int = 16
    pixels: int = 256


def points(base: Point) -> list[Point]:
    """Return a base and what differs from it in one thing: the batch, the rank, the side."""
    return [
        base,
        *(replace(base, batch=base.batch * factor) for factor in (2, 4)),
        *(replace(base, rank=rank) for rank in (4, 64)),
        replace(base, pixels=base.pixels * 2),
    ]


def print_growth(layout: Layout, base: Point, rounds: int, device: torch.device) -> None:
    """Print a line for each point, beside a plain loop of the base that takes turns with it.

    Args:
        layout: Of the network, which has random weights in float32.
        base: What the others are compared with.
        rounds: Timed steps of each.
        device: To train on.
    """
    network = random_network(layout, device, torch.float32)
    twin = with_weights_of(network, layout)
    print("batch  rank  pixels  step s  x plain loop of the first  MiB above the model")
    for point in points(base):
        adapter = AdapterConfig(rank=point.rank, alpha=float(point.rank))
        data = data_for(layout, point.batch, point.pixels)
        first_data = data_for(layout, base.batch, base.pixels)
        with (
            plain_run(twin, first_data, False) as reference,
            diffusers_run(network, data, False, adapter) as ours,
        ):
            times = taken_in_turns([reference, ours], rounds, device)
            memory = peak_bytes(ours, network.network)
        print(
            f"{point.batch:>5}  {point.rank:>4}  {point.pixels:>6}  {min(times[1]):>6.3f}  "
            f"{ratio(times[1], times[0]):>25.2f}  {memory / MIB:>19.0f}",
            flush=True,
        )
