"""Ways to train inside ComfyUI, to be timed against each other by ``bench_comfyui.py``.

Importing this module boots ComfyUI as its tests do: on the CPU, or see tests/comfy/conftest.py.
"""

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).parents[1]


def load_file(name: str, path: Path) -> ModuleType:
    """Import a file."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_KEPT = load_file("tests_conftest", ROOT / "tests" / "conftest.py")  # declares operators
load_file("comfy_conftest", ROOT / "tests" / "comfy" / "conftest.py")  # boots ComfyUI on the CPU
torch.use_deterministic_algorithms(False)

import comfy.model_management  # noqa: E402
import comfy.model_patcher  # noqa: E402
import comfy.supported_models  # noqa: E402
import comfy_extras.nodes_train as built_in  # noqa: E402
import trustopt_test_models as tiny  # noqa: E402
import trustopt_test_simulator as simulator  # noqa: E402
from comfy.ldm.modules.attention import BasicTransformerBlock, attention_pytorch  # noqa: E402
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402
from trustopt_pack.nodes.bridge.host import ComfyHost  # noqa: E402
from trustopt_pack.trustopt.adapters import build_adapters, select_layers  # noqa: E402
from trustopt_pack.trustopt.cli.contenders import (  # noqa: E402
    Data,
    Ours,
    PlainLoop,
    PlainLora,
)
from trustopt_pack.trustopt.config import AdapterConfig  # noqa: E402

ADAPTER = AdapterConfig(rank=16, alpha=16.0)
UNET = {
    **simulator.SDXL,
    "model_channels": 128,
    "transformer_depth": [0, 0, 2, 2, 4, 4],
    "transformer_depth_middle": 4,
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 4, 4, 4],
}
WIDTHS = (UNET["context_dim"], 1280)
CPU = torch.device("cpu")


def medium_model(name: str = "") -> Any:
    """Return a MODEL as a loader node makes it, with random weights.

    A plain loop gets normal tensors, which autograd may save.
    """
    with torch.inference_mode(not name.startswith("plain")):
        config = comfy.supported_models.SDXL(dict(UNET))
        config.set_inference_dtype(torch.float32, None)
        network = config.get_model({}, "")
        tiny.initialise(network.diffusion_model, 0)
        comfy.model_management.archive_model_dtypes(network.diffusion_model)
        network.requires_grad_(False)
        patcher = comfy.model_patcher.ModelPatcher(network, load_device=CPU, offload_device=CPU)
    # How ComfyUI's node loads it again, outside inference mode.
    patcher.cached_patcher_init = (lambda **_: loaded_again(), ())
    return patcher


LOADED_AGAIN: list[int] = []
"""Bytes of the weights of each model that a run loaded once more."""


def loaded_again() -> Any:
    """Stand for the loader that reads a checkpoint's file."""
    patcher = medium_model("plain")
    LOADED_AGAIN.append(patcher.model_size())
    return patcher


@contextlib.contextmanager
def ours(patcher: Any, data: Data, checkpointing: bool) -> Iterator[Ours]:
    """Lend the engine's step in a session on the MODEL."""
    host = ComfyHost(patcher, object(), object())
    layers = select_layers(host.layers(), ADAPTER, "sdxl")
    adapters = build_adapters(layers, ADAPTER, torch.Generator().manual_seed(0))
    with host.session(adapters.layers, checkpointing=checkpointing):
        yield Ours(host, adapters, data)


@contextlib.contextmanager
def plain(patcher: Any, data: Data, checkpointing: bool) -> Iterator[PlainLoop]:
    """Lend a plain loop over the same network, LoRAs in place of the same layers."""
    model, network = patcher.model, patcher.model.diffusion_model
    targets = select_layers(ComfyHost(patcher, object(), object()).layers(), ADAPTER, "sdxl")
    loras = {name: PlainLora(network.get_submodule(name), 16, 1.0) for name in targets}
    for name, lora in loras.items():
        parent, _, attribute = name.rpartition(".")
        setattr(network.get_submodule(parent), attribute, lora)
    if checkpointing:
        for block in network.modules():
            if isinstance(block, BasicTransformerBlock | ResBlock):
                recompute(block)
    context = torch.stack([prompt["context"] for prompt in data.conditioning.prompts])
    labels = torch.randn(len(context), UNET["adm_in_channels"])
    table = model.model_sampling.sigmas.clone().log()
    options = {"optimized_attention_override": lambda _, *a, **k: attention_pytorch(*a, **k)}

    def forward(noised: Tensor, sigma: Tensor) -> Tensor:
        scaled = noised / (sigma.square() + 1.0).sqrt().view(-1, 1, 1, 1)
        timestep = (sigma.log()[:, None] - table).abs().argmin(1).float()
        return network(scaled, timestep, context=context, y=labels, transformer_options=options)

    yield PlainLoop(forward, [p for x in loras.values() for p in (x.down, x.up)], data)


def recompute(block: Any) -> None:
    """Run a block again in backward."""
    forward = block.forward

    def again(*args: Any, **kwargs: Any) -> Tensor:
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    block.forward = again


def node_run(patcher: Any, data: Data, steps: int, **settings: Any) -> None:
    """Run ComfyUI's own training node."""
    size = data.latents.shape[-1] * 8
    labels = {"width": size, "height": size, "crop_w": 0, "crop_h": 0}
    labels |= {"target_width": size, "target_height": size}
    positive = [
        [p["context"][None], {"pooled_output": p["pooled"][None], **labels}]
        for p in data.conditioning.prompts
    ]
    given = {
        "batch_size": len(positive),
        "steps": steps,
        "grad_accumulation_steps": 1,
        "learning_rate": 1e-4,
        "rank": 16,
        "optimizer": "AdamW",
        "loss_function": "MSE",
        "seed": 0,
        "training_dtype": "fp32",
        "lora_dtype": "fp32",
        "quantized_backward": False,
        "algorithm": "LoRA",
        "gradient_checkpointing": True,
        "checkpoint_depth": 1,
        "offloading": False,
        "existing_lora": "[None]",
        "bucket_mode": False,
        "bypass_mode": False,
        **settings,
    }
    with torch.inference_mode(True):
        built_in.TrainLoraNode.execute(
            model=[patcher],
            latents=[{"samples": data.latents.clone()}],
            positive=[positive],
            **{name: [value] for name, value in given.items()},
        )


Start = Callable[[Any, Data, int], None]
"""Trains a number of steps on a MODEL."""


def started(lend: Callable[..., Any], checkpointing: bool) -> Start:
    """Return a whole run of a contender."""

    def run(patcher: Any, data: Data, steps: int) -> None:
        with lend(patcher, data, checkpointing) as contender:
            for _ in range(steps):
                contender.step()

    return run


def of_node(**settings: Any) -> Start:
    """Return a whole run of ComfyUI's own node."""
    return lambda patcher, data, steps: node_run(patcher, data, steps, **settings)


RUNS: dict[str, Start] = {
    "plain": started(plain, False),
    "ours": started(ours, False),
    "plain checkpointed": started(plain, True),
    "ours checkpointed": started(ours, True),
    "node, default": of_node(),
    "node, bypass, no checkpointing": of_node(bypass_mode=True, gradient_checkpointing=False),
}
