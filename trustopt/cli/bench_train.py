"""``trustopt bench train``: a training step against a plain loop, time and memory in one run.

The network is SDXL's UNet at two fifths of its widths and depths (248 M parameters), or one of full
size for a GPU, with random weights; the LoRA is of rank 16 on every linear layer of its
transformers. The plain loop is what one writes by hand: the same network, two more matrix products
a layer, mean squared error, torch's fused AdamW. The two take turns, on one thread, so that a busy
machine slows both.
"""

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from statistics import median
from types import MappingProxyType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from ..adapters import build_adapters, select_layers
from ..config import AdapterConfig
from ..hosts.diffusers_host import Denoiser, DiffusersHost
from ..hosts.flux import FluxDenoiser
from ..hosts.layouts.flux import FLUX_TRANSFORMER, FluxLayout
from ..hosts.layouts.unet import SDXL_UNET, UNetLayout
from ..hosts.loading import FLUX_DEV_SHIFT
from ..hosts.noise_levels import sdxl_sigmas
from ..hosts.sdxl import SDXLDenoiser
from ..hosts.tiny.specs import SDXL as TINY
from .contenders import (
    TOKENS,
    Data,
    Ours,
    PlainLoop,
    PlainLora,
    alone_on_gpu,
    peak_bytes,
    ratio,
    taken_in_turns,
)

Layout = UNetLayout | FluxLayout

LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        "tiny": TINY.unet,
        "medium": UNetLayout(channels=(128, 256, 512), depths=(0, 2, 4)),
        "sdxl": SDXL_UNET,
        "flux": FLUX_TRANSFORMER,
    }
)
FLUX_TOKENS = 512
ADAPTER = AdapterConfig(rank=16, alpha=16.0)
MIB = 2**20


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark and return 0."""
    parser = argparse.ArgumentParser(prog="trustopt bench train", description=__doc__)
    parser.add_argument("--model", choices=list(LAYOUTS), default="medium")
    parser.add_argument("--pixels", type=int, default=256, help="side of the pictures")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4], help="batch sizes")
    parser.add_argument("--rounds", type=int, default=7, help="timed steps of each")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    device, dtype = torch.device(given.device), getattr(torch, given.dtype)
    layout = LAYOUTS[given.model]
    ours = random_network(layout, device, dtype)
    plain = with_weights_of(ours, layout)
    count = sum(p.numel() for p in ours.network.parameters())
    print(f"{count / 1e6:.0f} M parameters, {given.dtype} on {device}, {given.pixels} px")
    compare = compare_on_gpu if device.type == "cuda" else compare_in_turns
    compare(ours, plain, layout, given)
    return 0


def compare_in_turns(
    ours: Denoiser, plain: Denoiser, layout: Layout, given: argparse.Namespace
) -> None:
    """Print times and memory of both, which take turns."""
    device = torch.device(given.device)
    print("batch  checkpointing  plain s  ours s  ratio  plain MiB  ours MiB  set up s")
    for batch in given.batches:
        data = data_for(layout, batch, given.pixels)
        gradients = []
        for checkpointing in (False, True):
            started = time.perf_counter()
            with diffusers_run(ours, data, checkpointing) as first:
                set_up = time.perf_counter() - started
                gradients.append(first.gradient())
                with plain_run(plain, data, checkpointing) as second:
                    times = taken_in_turns([second, first], given.rounds, device)
                    memory = peak_bytes(second, plain.network), peak_bytes(first, ours.network)
            print(
                f"{batch:>5}  {'on' if checkpointing else 'off':<13}  "
                f"{min(times[0]):>7.3f}  {min(times[1]):>6.3f}  {ratio(times[1], times[0]):>5.3f}  "
                f"{memory[0] / MIB:>9.0f}  {memory[1] / MIB:>8.0f}  {set_up:>8.2f}",
                flush=True,
            )
        difference = apart(*gradients)
        print(f"{batch:>5}  checkpointing changes the gradient by {difference:.1e} of its norm")


def compare_on_gpu(
    ours: Denoiser, plain: Denoiser, layout: Layout, given: argparse.Namespace
) -> None:
    """Print times and memory of each alone: the plain loop, ours, and ours from a recording."""
    device = torch.device(given.device)
    model = sum(p.numel() * p.element_size() for p in ours.network.parameters())
    print(f"model {model / MIB:.0f} MiB; held is everything that torch's allocator has, at most")
    print("batch  checkpointing  who        median ms  least ms  held MiB")
    for batch, checkpointing in product(given.batches, (False, True)):
        data = data_for(layout, batch, given.pixels)
        runs = {
            "plain": plain_run(plain, data, checkpointing),
            "ours": diffusers_run(ours, data, checkpointing),
            "recorded": diffusers_run(ours, data, checkpointing, graphs=True),
        }
        with diffusers_run(ours, data, checkpointing) as again:
            gradients = {"again": third_gradient(again)}
        for name, opened in runs.items():
            with opened as contender:
                if isinstance(contender, Ours):
                    gradients[name] = third_gradient(contender)
                times, held = alone_on_gpu(contender, given.rounds, device)
            print(
                f"{batch:>5}  {'on' if checkpointing else 'off':<13}  {name:<9}  "
                f"{1e3 * median(times):>9.1f}  {1e3 * min(times):>8.1f}  {held / MIB:>8.0f}",
                flush=True,
            )
        again, recorded = (apart(gradients["ours"], gradients[n]) for n in ("again", "recorded"))
        print(f"{batch:>5}  gradients differ by {recorded:.1e} recorded, {again:.1e} run again")


def third_gradient(contender: Ours) -> Tensor:
    """Return the gradient of the third step: a recorder runs the first as it is."""
    return [contender.gradient() for _ in range(3)][-1]


def apart(one: Tensor, other: Tensor) -> float:
    """Return the norm of the difference over the first one's norm."""
    return float((other - one).norm() / one.norm())


def random_network(layout: Layout, device: torch.device, dtype: torch.dtype) -> Denoiser:
    """Build a network with random weights, without holding them in another dtype first."""
    denoiser = empty_network(layout)
    denoiser.network.to(dtype).to_empty(device=device)
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for name, parameter in denoiser.network.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter[0].numel() ** -0.5, generator=generator)
            else:
                parameter.fill_(float(name.endswith("weight")))
    return denoiser


def with_weights_of(other: Denoiser, layout: Layout) -> Denoiser:
    """Return a second network over the same weights."""
    denoiser = empty_network(layout)
    denoiser.network.load_state_dict(other.network.state_dict(), assign=True)
    denoiser.network.requires_grad_(False).train(False)
    return denoiser


def empty_network(layout: Layout) -> Denoiser:
    """Build a network without weights."""
    from diffusers import FluxTransformer2DModel, UNet2DConditionModel

    flux = isinstance(layout, FluxLayout)
    with torch.device("meta"):
        kind: Any = FluxTransformer2DModel if flux else UNet2DConditionModel
        network = kind.from_config(dict(layout.diffusers_config()))
    network.requires_grad_(False).train(False)
    if flux:
        return FluxDenoiser(network, layout, flow_shift=FLUX_DEV_SHIFT)
    return SDXLDenoiser(network, layout, prediction="eps", sigmas=sdxl_sigmas())


def data_for(layout: Layout, batch: int, pixels: int) -> Data:
    """Draw what a network of this shape trains on."""
    return Data.of(
        batch,
        pixels,
        (layout.context_dim, layout.pooled_dim),
        channels=layout.latent_channels,
        tokens=FLUX_TOKENS if isinstance(layout, FluxLayout) else TOKENS,
    )


@contextmanager
def diffusers_run(
    denoiser: Denoiser,
    data: Data,
    checkpointing: bool,
    adapter: AdapterConfig = ADAPTER,
    *,
    graphs: bool = False,
) -> Iterator[Ours]:
    """Open a session of the headless host and lend the engine's step."""
    without_text: Any = SimpleNamespace(models={}, trainable=())
    device = next(denoiser.network.parameters()).device
    host = DiffusersHost(denoiser, nn.Identity(), without_text, model_name="bench", device=device)
    layers = select_layers(host.layers(), adapter, host.family)
    adapters = build_adapters(layers, adapter, torch.Generator().manual_seed(0), device=device)
    with host.session(adapters.layers, checkpointing=checkpointing):
        yield Ours(host, adapters, data, graphs=graphs)


@contextmanager
def plain_run(denoiser: Denoiser, data: Data, checkpointing: bool) -> Iterator[PlainLoop]:
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
        parameters = [p for x in loras.values() for p in (x.down, x.up)]
        yield PlainLoop(forward, parameters, data, flow=denoiser.prediction == "flow")
    finally:
        network.disable_gradient_checkpointing()
        for path, linear in linears.items():
            replace_module(network, path, linear)


def is_target(path: str, layer: nn.Module) -> bool:
    """Return whether the default LoRA trains a layer: every linear one of the transformers."""
    return isinstance(layer, nn.Linear) and (".attentions." in path or "transformer_blocks" in path)


def replace_module(network: nn.Module, path: str, module: nn.Module) -> None:
    """Put a module at a path."""
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, module)
