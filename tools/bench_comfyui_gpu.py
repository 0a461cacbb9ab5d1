"""Time full-size training steps inside ComfyUI on a GPU: recorded, not recorded, its own node.

COMFYUI_PATH=... COMFYUI_DEVICE=cuda python tools/bench_comfyui_gpu.py [sdxl|flux] [--weights fp8]

Random weights, LoRA of rank 16, 1024 px, batch 1, computed in bfloat16. ``COMFYUI_DEVICE`` may be
``cuda-dynamic`` for ComfyUI's dynamic memory; what that holds torch does not count. Every run is
warmed up and synchronised; ``held`` is the most that torch's allocator had, all in all.
"""

import argparse
import time
from contextlib import suppress
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from comfy_runs import ADAPTER, node_run, simulator  # boots ComfyUI

# isort: split
import comfy.model_management
import comfy.model_patcher
from torch.optim.optimizer import register_optimizer_step_post_hook
from trustopt_pack.nodes.bridge.host import ComfyHost
from trustopt_pack.trustopt.adapters import build_adapters, select_layers
from trustopt_pack.trustopt.cli.contenders import Data, Ours, alone_on_gpu

CUDA = torch.device("cuda")
MIB = 2**20
TOKENS = {"sdxl": 77, "flux": 512}
CHANNELS = {"sdxl": 4, "flux": 16}


def full_model(family: str, weights: torch.dtype) -> Any:
    """Return a MODEL of full size as a loader node makes it, its random weights in main memory."""
    kind, unet = simulator.CONFIGS[family]
    with torch.inference_mode(True):
        config = kind(dict(unet))
        config.set_inference_dtype(weights, None if weights == torch.bfloat16 else torch.bfloat16)
        network = config.get_model({}, "")
        generator = torch.Generator(CUDA).manual_seed(0)
        for name, parameter in network.diffusion_model.named_parameters():
            drawn = torch.zeros(parameter.shape, device=CUDA, dtype=torch.bfloat16)
            if parameter.ndim > 1:
                drawn.normal_(std=parameter[0].numel() ** -0.5, generator=generator)
            else:
                drawn.fill_(float(name.endswith("weight") or name.endswith("scale")))
            parameter.data = drawn.to(weights).cpu()
        comfy.model_management.archive_model_dtypes(network.diffusion_model)
        network.requires_grad_(False)
        patcher = comfy.model_patcher.CoreModelPatcher(
            network,
            load_device=comfy.model_management.get_torch_device(),
            offload_device=torch.device("cpu"),
        )
    patcher.cached_patcher_init = (lambda **_: full_model(family, weights), ())
    return patcher


def time_ours(patcher: Any, family: str, data: Data, rounds: int) -> None:
    """Print a line for each way our engine can run."""
    for checkpointing in (False, True):
        for graphs in (False, True):
            host = ComfyHost(patcher, object(), object())
            layers = select_layers(host.layers(), ADAPTER, family)
            adapters = build_adapters(layers, ADAPTER, torch.Generator().manual_seed(0))
            with host.session(adapters.layers, checkpointing=checkpointing):
                contender = Ours(host, adapters, data, graphs=graphs)
                times, held = alone_on_gpu(contender, rounds, CUDA)
                made = contender.run.graphs
            replayed = 0 if made is None else made.replayed
            show("ours", checkpointing, times, held, f"{replayed} replayed")
            del contender, made


def time_node(patcher: Any, data: Data) -> None:
    """Print a line for ComfyUI's own node: five steps, the first two to warm up."""
    stamps: list[float] = []

    def note(*_: Any) -> None:
        torch.cuda.synchronize()
        stamps.append(time.perf_counter())

    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    handle = register_optimizer_step_post_hook(note)
    try:
        node_run(patcher, data, 5, training_dtype="bf16", lora_dtype="fp32")
    finally:
        handle.remove()
    times = [b - a for a, b in pairwise(stamps[1:])]
    show("ComfyUI's node, default", True, times, torch.cuda.max_memory_reserved(), "")


def show(who: str, checkpointing: bool, times: list[float], held: int, note: str) -> None:
    """Print one line."""
    print(
        f"{who:<24} {'on' if checkpointing else 'off':<13} {1e3 * median(times):>9.1f} "
        f"{1e3 * min(times):>9.1f} {held / MIB:>9.0f}  {note}",
        flush=True,
    )


def main() -> None:
    """Print one line for each way to train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("family", choices=list(TOKENS), nargs="?", default="sdxl")
    parser.add_argument("--weights", choices=["bf16", "fp8"], default="bf16")
    parser.add_argument("--rounds", type=int, default=8)
    given = parser.parse_args()
    weights = {"bf16": torch.bfloat16, "fp8": torch.float8_e4m3fn}[given.weights]
    widths = simulator.PROMPT_WIDTHS[given.family]
    data = Data.of(1, 1024, widths, channels=CHANNELS[given.family], tokens=TOKENS[given.family])
    patcher = full_model(given.family, weights)
    kind = "dynamic" if patcher.is_dynamic() else "static"
    print(f"{given.family}, {patcher.model_size() / MIB:.0f} MiB of {given.weights}, {kind}")
    print(f"{'who':<24} {'checkpointing':<13} median ms  least ms  held MiB")
    time_ours(patcher, given.family, data, given.rounds)
    with suppress(torch.OutOfMemoryError):
        time_node(patcher, data)


if __name__ == "__main__":
    main()
