"""Time a training step inside ComfyUI: this trainer, a plain loop, and ComfyUI's own node.

COMFYUI_PATH=... python tools/bench_comfyui.py [--batches 1 4] [--rounds 5] [--only NAME] [--peaks]

The network is ComfyUI's SDXL UNet at two fifths of its widths and depths (248 M parameters, random
weights, float32), the LoRA of rank 16. All run in one process on one thread, in turns; seconds are
processor time. ``MiB`` is what a whole run makes live at once above the loaded model, counted by
tensor (a copy of the model counts); with ``--only``, what the process's memory grows by. ``set up``
is processor time from the start to the network's first call, ``reread`` what is loaded again by
then, in models. ``--peaks`` counts the memory of one step of the full-size models instead, in
tensors that have shapes and no numbers.
"""

import argparse
import contextlib
import math
import time
from collections.abc import Iterator
from typing import Any

import torch
from comfy_runs import (  # boots ComfyUI, so it comes before what is ComfyUI's
    CPU,
    LOADED_AGAIN,
    RUNS,
    WIDTHS,
    Data,
    medium_model,
    simulator,
)

# isort: split
import comfy.model_management
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook
from trustopt_pack.trustopt.cli.contenders import ratio
from trustopt_pack.trustopt.cli.live_bytes import LiveBytes
from trustopt_pack.trustopt.train.peak import PeakMeter


class StepClock:
    """Notes the processor time at each optimizer step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, *_: Any) -> None:
        """Take a time."""
        self.times.append(time.process_time())

    @property
    def seconds(self) -> list[float]:
        """Time between steps."""
        return [b - a for a, b in zip(self.times, self.times[1:], strict=False)]


@contextlib.contextmanager
def step_clock() -> Iterator[StepClock]:
    """Note every optimizer step inside the block."""
    clock = StepClock()
    handle = register_optimizer_step_post_hook(clock)
    try:
        yield clock
    finally:
        handle.remove()


@contextlib.contextmanager
def network_calls() -> Iterator[list[tuple[int, float]]]:
    """Collect batch size and processor time of every call of any network."""
    seen: list[tuple[int, float]] = []

    def note(module: Any, arguments: tuple[Tensor, ...]) -> None:
        if isinstance(module, UNetModel):
            seen.append((len(arguments[0]), time.process_time()))

    handle = register_module_forward_pre_hook(note)
    try:
        yield seen
    finally:
        handle.remove()


def live_mib(name: str, data: Data) -> float:
    """Return what a run of two steps makes live at once above the loaded model."""
    patcher = medium_model(name)
    counted = LiveBytes(patcher.model.state_dict().values())
    with counted:
        RUNS[name](patcher, data, 2)
    comfy.model_management.unload_all_models()
    return counted.peak / 2**20


def resident_mib(name: str, data: Data) -> float:
    """Return what the process's memory grows by in a run of three steps."""
    patcher, meter = medium_model(name), PeakMeter(CPU)
    meter.resume()
    RUNS[name](patcher, data, 3)
    meter.pause()
    return math.nan if meter.grown is None else meter.grown / 2**20


def seconds_in_turns(names: list[str], data: Data, rounds: int) -> dict[str, list[float]]:
    """Return each run's seconds a step: three steps a round, the first of them to warm up."""
    taken: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            patcher = medium_model(name)
            with step_clock() as clock:
                RUNS[name](patcher, data, 3)
            taken[name].append(min(clock.seconds))
            comfy.model_management.unload_all_models()
    return taken


def main() -> None:
    """Print one line for each way to train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pixels", type=int, default=256)
    parser.add_argument("--peaks", action="store_true", help="count full-size models' memory")
    parser.add_argument("--only", choices=list(RUNS), help="measure this one's resident memory")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.peaks:
        print_peaks()
        return
    for batch in given.batches:
        data = Data.of(batch, given.pixels, WIDTHS)
        if given.only:
            print(f"batch {batch}, {given.only}: {resident_mib(given.only, data):.0f} MiB")
            continue
        print(f"batch {batch:<26} s/step  / plain      MiB  set up  reread  batch of each call")
        taken = seconds_in_turns(list(RUNS), data, given.rounds)
        for name, seconds in taken.items():
            set_up, reread, calls = beginning(name, data)
            over = ratio(seconds, taken["plain"])
            print(
                f"{name:<32} {min(seconds):>6.2f}  {over:>7.3f}  {live_mib(name, data):>7.0f}  "
                f"{set_up:>6.2f}  {reread:>6.2f}  {calls}",
                flush=True,
            )


def beginning(name: str, data: Data) -> tuple[float, float, list[int]]:
    """Return a one-step run's set-up seconds, models read again, and network batch sizes."""
    patcher = medium_model(name)
    LOADED_AGAIN.clear()
    with network_calls() as seen:
        started = time.process_time()
        RUNS[name](patcher, data, 1)
    comfy.model_management.unload_all_models()
    set_up = seen[0][1] - started
    return set_up, sum(LOADED_AGAIN) / patcher.model_size(), [size for size, _ in seen]


def print_peaks() -> None:
    """Print the memory of one step at full size, rank 16, bfloat16, 1024 x 1024 pixels.

    The total is with the base model's weights, the LoRA and AdamW's state.
    """
    print(
        f"{'GiB, at 1024 px in bf16':<31}  peak  gradients  planned activations  kernels      total"
    )
    kinds = {"sdxl": None, "flux": None, "flux, fp8 weights": torch.float8_e4m3fn}
    for name, weights_in in kinds.items():
        for checkpointing in (False, True):
            family = name.partition(",")[0]
            found = simulator.step(family, checkpointing=checkpointing, weights_in=weights_in)
            sizes = (found.peak, found.gradients, found.estimate, found.total)
            peak, gradients, estimate, total = (n / 2**30 for n in sizes)
            words = f"{name}, {'checkpointed' if checkpointing else 'plain'}"
            print(
                f"{words:<31} {peak:>5.2f}  {gradients:>9.2f}  {estimate:>19.2f}  "
                f"{found.kernels:>7}  {total:>9.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
