"""``trustopt bench optim``: one optimizer step, against torch's fused AdamW in the same run.

The parameters are those of a LoRA of rank 16 on SDXL's UNet (1,444 matrices, 42.6 M numbers);
``--set launch`` takes the same matrices with every dimension an eighth: so small that what counts
is how many operations are launched, as on a GPU. Each optimizer takes turns with AdamW; on a CPU
both are timed by processor time. The published classes join where ``--originals`` names a folder
with their files.
"""

import argparse
import gc
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import AdamW, Optimizer

from ..optim import AutoTrustGO, EmoClan, EmoFact, EmoLynx, EmoNavi, EmoNeco, EmoZeal
from ..optim.adamw import FusedAdamW
from ..optim.chunked_optimizer import ChunkedOptimizer
from .contenders import ratio, state_tensors, taken_in_turns
from .dispatches import Dispatches
from .lora_set import LAUNCH_BOUND, lora_shapes
from .originals import load_originals

Make = Callable[[list[Parameter]], Optimizer]
WARM_UP = 8
"""Steps before the first timed one: the loss signal is then near its scalar."""
RISE = 0.85
"""What the difference of the loss averages is after those steps, for a loss that rose by 1."""


@dataclass(frozen=True)
class Row:
    """A row of the table: how it is built, the original's class, the scalar that drives it."""

    make: Make
    original: str
    scalar: float = 0.0


ROWS = {
    "autotrustgo described": Row(AutoTrustGO, "AutoTrustGO"),
    "autotrustgo published": Row(partial(AutoTrustGO, formulation="published"), "AutoTrustGO"),
    "emonavi": Row(EmoNavi, "EmoNavi"),
    "emofact": Row(EmoFact, "EmoFact"),
    "emolynx": Row(EmoLynx, "EmoLynx"),
    "emoclan calm": Row(EmoClan, "EmoClan"),
    "emoclan as fact": Row(EmoClan, "EmoClan", 0.45),
    "emoclan as lynx": Row(EmoClan, "EmoClan", 0.8),
    "emozeal calm": Row(EmoZeal, "EmoZeal"),
    "emozeal soft": Row(EmoZeal, "EmoZeal", 0.35),
    "emozeal sign": Row(EmoZeal, "EmoZeal", 0.8),
    "emoneco calm": Row(EmoNeco, "EmoNeco"),
    "emoneco soft": Row(EmoNeco, "EmoNeco", 0.35),
    "adamw": Row(partial(FusedAdamW, lr=1e-4), "AdamW"),
}
"""Where a variant steps in several ways, each is a row."""


class Steps:
    """One optimizer on its own parameters and gradients, as ``taken_in_turns`` wants it."""

    def __init__(
        self, make: Make, shapes: Sequence[tuple[int, ...]], device: torch.device, scalar: float
    ) -> None:
        generator = torch.Generator().manual_seed(0)
        self.params = [Parameter(torch.zeros(shape, device=device)) for shape in shapes]
        for p in self.params:
            p.grad = (0.01 * torch.randn(p.shape, generator=generator)).to(device)
        self.optimizer = make(self.params)
        self._losses = losses(scalar)
        for _ in range(WARM_UP):
            self.step()

    def step(self) -> None:
        """Take one optimizer step."""
        loss = next(self._losses)
        optimizer: Any = self.optimizer
        if isinstance(optimizer, ChunkedOptimizer):
            optimizer.step(loss=loss)
        else:
            optimizer.step(lambda: torch.tensor(loss))

    def tensors(self) -> list[Tensor]:
        """Return parameters and state."""
        return [*self.params, *state_tensors(self.optimizer)]

    def state_bytes(self) -> float:
        """Return the bytes of state a parameter."""
        size = sum(t.numel() * t.element_size() for t in state_tensors(self.optimizer))
        return size / sum(p.numel() for p in self.params)

    def count(self) -> Dispatches:
        """Return what one more step sends to the device."""
        with Dispatches() as counted:
            self.step()
        return counted


def losses(scalar: float) -> Iterator[float]:
    """Yield losses that hold an Emo optimizer's scalar near a value for some dozen steps."""
    yield 0.0
    rise = math.atanh(scalar) / 5.0 / RISE
    while True:
        yield rise


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark and return 0."""
    parser = argparse.ArgumentParser(prog="trustopt bench optim", description=__doc__)
    parser.add_argument("--set", choices=["sdxl", "launch"], default="sdxl")
    parser.add_argument("--rounds", type=int, default=9, help="timed steps of each")
    parser.add_argument("--originals", type=Path, help="folder with the published classes")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    device = torch.device(given.device)
    shapes = lora_shapes(shrink=LAUNCH_BOUND if given.set == "launch" else 1)
    originals = load_originals(given.originals) if given.originals else {}
    numbers = sum(math.prod(shape) for shape in shapes)
    print(f"{len(shapes)} matrices, {numbers / 1e6:.2f} M parameters on {device}, one thread")
    print(f"{'optimizer':<24}    ms  x AdamW  original / ours  dispatches  reads  state B/param")
    for name, row in ROWS.items():
        if given.only in name:
            original = originals.get(row.original)
            print(measure(name, row, original, shapes, given.rounds, device), flush=True)
    return 0


def measure(
    name: str,
    row: Row,
    original: type[Optimizer] | None,
    shapes: Sequence[tuple[int, ...]],
    rounds: int,
    device: torch.device,
) -> str:
    """Return a row's line: this optimizer, AdamW and the original, step by step in turns."""
    contenders = [
        Steps(row.make, shapes, device, row.scalar),
        Steps(partial(AdamW, lr=1e-4, fused=True), shapes, device, 0.0),
    ]
    if original is not None:
        contenders.append(Steps(original, shapes, device, row.scalar))
    times = taken_in_turns(contenders, rounds, device)
    ours = contenders[0]
    counted = ours.count()
    against = f"{1.0 / ratio(times[0], times[2]):.1f}" if original is not None else "-"
    line = (
        f"{name:<24}  {1e3 * statistics.median(times[0]):>6.1f}  {ratio(times[0], times[1]):>7.2f}"
        f"  {against:>15}  {counted.count:>10}  {counted.reads:>5}  {ours.state_bytes():>13.2f}"
    )
    del contenders, ours
    gc.collect()
    return line
