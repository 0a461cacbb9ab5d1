"""``trustopt bench train``: a training step against a plain loop, time and memory in one run.

The network is SDXL's UNet at two fifths of its widths and depths (248 M parameters) with random
weights; the LoRA is of rank 16 on every linear layer of its transformers. The plain loop is what
one writes by hand: the same network, two more matrix products a layer, mean squared error, torch's
fused AdamW. The two take turns, on one thread, so that a busy machine slows both.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from ..adapters import build_adapters, select_layers
from ..config import AdapterConfig
from ..hosts.diffusers_host import DiffusersHost
from ..hosts.layouts.unet import UNetLayout
from ..hosts.noise_levels import sdxl_sigmas
from ..hosts.sdxl import SDXLDenoiser
from .contenders import Data, Ours, PlainLoop, PlainLora, peak_bytes, ratio, taken_in_turns

LAYOUT = UNetLayout(channels=(128, 256, 512), depths=(0, 2, 4))
ADAPTER = AdapterConfig(rank=16, alpha=16.0)


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark and return 0."""
    parser = argparse.ArgumentParser(prog="trustopt bench train", description=__doc__)
    parser.add_argument("--pixels", type=int, default=256, help="side of the pictures")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4], help="batch sizes")
    parser.add_argument("--rounds", type=int, default=7, help="timed steps of each")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    device, dtype = torch.device(given.device), getattr(torch, given.dtype)
    ours, plain = random_unet(device, dtype), random_unet(device, dtype)
    count = sum(p.numel() for p in plain.network.parameters())
    print(f"{count / 1e6:.0f} M parameters, {given.dtype} on {device}, {given.pixels} px")
    print("batch  checkpointing  plain s  ours s  ratio  plain MiB  ours MiB  set up s")
    for batch in given.batches:
        data = Data.of(batch, given.pixels, (LAYOUT.context_dim, LAYOUT.pooled_dim))
        for checkpointing in (False, True):
            started = time.perf_counter()
            with diffusers_run(ours, data, checkpointing) as first:
                set_up = time.perf_counter() - started
                with plain_run(plain, data, checkpointing) as second:
                    times = taken_in_turns([second, first], given.rounds, device)
                    memory = peak_bytes(second, plain.network), peak_bytes(first, ours.network)
            print(
                f"{batch:>5}  {'on' if checkpointing else 'off':<13}  "
                f"{min(times[0]):>7.3f}  {min(times[1]):>6.3f}  {ratio(times[1], times[0]):>5.3f}  "
                f"{memory[0] / 2**20:>9.0f}  {memory[1] / 2**20:>8.0f}  {set_up:>8.2f}",
                flush=True,
            )
    return 0


def random_unet(device: torch.device, dtype: torch.dtype) -> SDXLDenoiser:
    """Build the network; its weights are random."""
    from diffusers import UNet2DConditionModel

    with device:
        network: Any = UNet2DConditionModel.from_config(dict(LAYOUT.diffusers_config()))
    network.requires_grad_(False).train(False)
    if dtype != torch.float32:
        network.to(dtype)
    return SDXLDenoiser(network, LAYOUT, prediction="eps", sigmas=sdxl_sigmas())


@contextmanager
def diffusers_run(denoiser: SDXLDenoiser, data: Data, checkpointing: bool) -> Iterator[Ours]:
    """Open a session of the headless host and lend the engine's step."""
    without_text: Any = SimpleNamespace(models={}, trainable=())
    device = next(denoiser.network.parameters()).device
    host = DiffusersHost(denoiser, nn.Identity(), without_text, model_name="bench", device=device)
    layers = select_layers(host.layers(), ADAPTER, host.family)
    adapters = build_adapters(layers, ADAPTER, torch.Generator().manual_seed(0), device=device)
    with host.session(adapters.layers, checkpointing=checkpointing):
        yield Ours(host, adapters, data)


@contextmanager
def plain_run(denoiser: SDXLDenoiser, data: Data, checkpointing: bool) -> Iterator[PlainLoop]:
    """Put LoRAs into the same layers by hand and lend a plain loop."""
    network: Any = denoiser.network
    paths = [path for path, layer in network.named_modules() if is_target(path, layer)]
    linears = {path: network.get_submodule(path) for path in paths}
    loras = {path: PlainLora(linear, ADAPTER.rank, 1.0) for path, linear in linears.items()}
    dtype = next(network.parameters()).dtype

    def forward(noised: Tensor, sigma: Tensor) -> Tensor:
        return denoiser(noised, sigma, data.conditioning, dtype)

    try:
        for path, lora in loras.items():
            replace_module(network, path, lora)
        if checkpointing:
            network.enable_gradient_checkpointing()
        network.train(checkpointing)
        yield PlainLoop(forward, [p for x in loras.values() for p in (x.down, x.up)], data)
    finally:
        network.disable_gradient_checkpointing()
        for path, linear in linears.items():
            replace_module(network, path, linear)


def is_target(path: str, layer: nn.Module) -> bool:
    """Return whether the default LoRA trains a layer: every linear one of the transformers."""
    return isinstance(layer, nn.Linear) and ".attentions." in path


def replace_module(network: nn.Module, path: str, module: nn.Module) -> None:
    """Put a module at a path."""
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, module)
