"""What a job keeps in memory, for ``--dry-run``."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ..adapters import AdapterSet
from ..config import JobConfig
from ..hosts.diffusers_host import DiffusersHost
from ..optim import build_optimizer, step_optimizer
from ..plan import lora_file_bytes


def memory_report(config: JobConfig, host: DiffusersHost, adapters: AdapterSet) -> str:
    """Return a table of what stays in memory while training, for people.

    Activations are left out: they depend on resolution, batch and attention kernels.
    """
    trained = adapters.num_parameters
    rows = {
        f"{host.model_name} ({str(host.dtype).removeprefix('torch.')})": held(host.network),
        "VAE": held(host.vae),
        "adapter weights and gradients": 8 * trained,
        f"{config.optimizer.name}'s state": round(trained * state_bytes(config, adapters)),
    }
    lines = [f"{name:<40} {size(count):>10}" for name, count in rows.items()]
    dtype = "fp32" if host.dtype == torch.float32 else "fp16"
    return "\n".join(
        [
            f"{len(adapters)} layers with {trained:,} trained parameters, "
            f"LoRA file about {size(lora_file_bytes(trained, dtype))}",
            f"memory on {host.device}, activations not counted:",
            *lines,
            f"{'together':<40} {size(sum(rows.values())):>10}",
        ]
    )


def held(module: nn.Module) -> int:
    """Return the bytes of a module's weights."""
    return sum(p.numel() * p.element_size() for p in module.parameters())


def state_bytes(config: JobConfig, adapters: AdapterSet) -> float:
    """Return the optimizer's state in bytes a trained parameter, measured on the largest layer."""
    largest = max(
        adapters, key=lambda name: sum(t.numel() for t in adapters.tensors(name).values())
    )
    parameters = [nn.Parameter(torch.zeros(t.shape)) for t in adapters.tensors(largest).values()]
    optimizer = build_optimizer(
        config.optimizer.name, parameters, lr=config.lr, options=config.optimizer.options
    )
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 1e-3)
    step_optimizer(optimizer, 1.0)
    total = sum(t.numel() * t.element_size() for t in tensors_in(optimizer.state_dict()["state"]))
    return total / sum(p.numel() for p in parameters)


def tensors_in(node: Any) -> Iterable[Tensor]:
    """Yield the tensors of nested dicts and lists."""
    if isinstance(node, Tensor):
        yield node
    elif isinstance(node, dict | list | tuple):
        for child in node.values() if isinstance(node, dict) else node:
            yield from tensors_in(child)


def size(count: float) -> str:
    """Return bytes to read: ``5.14 GB``, ``85.1 MB``, ``12 kB``."""
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count / 1e3:.0f} kB"
