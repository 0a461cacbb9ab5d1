"""The memory plan: what a run needs, made before step 1, and how to make it fit.

``plan_memory`` adds up what will be on the device, chooses gradient checkpointing where the job
says ``auto``, lets the host leave weights off the device where it can, and otherwise refuses with
what would help.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from ..adapters import AdapterSet
from ..adapters.targets import is_text_encoder
from ..config import JobConfig
from ..host import Host, HostMemory
from ..optim import build_optimizer, step_optimizer
from .activations import Workload, activation_bytes

MIB, GIB = 2**20, 2**30

ACTIVATION_MARGIN = 0.1
"""Share of the activations kept free on top: the estimate's error and the allocator's gaps."""
WORKSPACE: Mapping[str, int] = {"cuda": 512 * MIB, "xpu": 512 * MIB, "cpu": 128 * MIB}
"""Bytes kept free besides, by kind of device: the libraries' own buffers, a weight being cast."""
RESOLUTION_STEP = 64
"""Pixels; what a smaller resolution is rounded down to when it is proposed."""


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """What a run will keep on its device, in bytes, and what was decided about it."""

    device: str
    available: int | None
    """What the device can give to the model and its training; None if nobody can tell."""
    weights: int
    """The base model's, all of it."""
    adapters: int
    """The adapters' float32 weights, and their moving average where one is kept."""
    gradients: int
    optimizer: int
    """The optimizer's state after its first step."""
    activations: int
    """The most a step needs at once, as ``checkpointing`` is."""
    activations_plain: int
    """The same without checkpointing."""
    headroom: int
    checkpointing: bool
    """Recompute blocks in backward."""
    why: str
    """What decided about ``checkpointing``."""

    @property
    def growth(self) -> int:
        """What the first step adds to what is on the device before it."""
        return self.gradients + self.optimizer + self.activations

    @property
    def total(self) -> int:
        """Everything on the device at the worst moment, without the headroom."""
        return self.weights + self.adapters + self.growth

    @property
    def reserve(self) -> int:
        """What the host must leave free of weights."""
        return self.growth + self.headroom

    @property
    def missing(self) -> int:
        """Bytes that do not fit, headroom left out; 0 if all do or nobody can tell."""
        return 0 if self.available is None else max(0, self.total - self.available)

    @property
    def left_off(self) -> int:
        """Bytes of the base model's weights that stay off the device, headroom kept."""
        if self.available is None:
            return 0
        return min(self.weights, max(0, self.total + self.headroom - self.available))

    def report(self) -> str:
        """Return the plan as a table, for people."""
        rows = {
            "base model": self.weights,
            "adapters (float32)": self.adapters,
            "gradients": self.gradients,
            "optimizer state": self.optimizer,
            "activations": self.activations,
            "together": self.total,
        }
        free = "unknown" if self.available is None else gib(self.available)
        lines = [f"memory plan for {self.device} (free for this: {free})"]
        lines += [f"  {name:<18} {gib(count):>10}" for name, count in rows.items()]
        state = "on" if self.checkpointing else "off"
        lines.append(f"checkpointing is {state}: {self.why}")
        if self.left_off:
            lines.append(f"{gib(self.left_off)} of the base model's weights stay off the device")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for ``result.json``."""
        return {**asdict(self), "total": self.total, "growth": self.growth}


def plan_memory(
    config: JobConfig, host: Host, adapters: AdapterSet, largest_area: int
) -> MemoryPlan:
    """Plan the memory of a run; nothing is moved or allocated but a trial optimizer's state.

    Args:
        config: The job.
        host: Where it will run.
        adapters: What it will train, on the host's device.
        largest_area: Pixels of the largest bucket.

    Raises:
        ValueError: If it cannot fit; the first line says by how much and what would help.
    """
    memory = host.memory()
    trained = 4 * adapters.num_parameters
    held = trained * (2 if config.ema_decay else 1)
    weights = memory.weights
    if any(is_text_encoder(name) for name in adapters):
        weights += memory.text_encoders
    work = Workload(
        batch=config.batch_size,
        latent_area=largest_area // host.pixels_per_latent**2,
        itemsize=host.dtype.itemsize,
    )
    plain, recomputed = activation_bytes(host.layers(), adapters, host.family, work)

    def plan(checkpointing: bool, why: str) -> MemoryPlan:
        activations = recomputed if checkpointing else plain
        workspace = WORKSPACE.get(host.device.type, WORKSPACE["cuda"])
        return MemoryPlan(
            device=str(host.device),
            # The adapters are there already.
            available=None if memory.available is None else memory.available + trained,
            weights=weights,
            adapters=held,
            gradients=trained,
            optimizer=optimizer_bytes(config, adapters),
            activations=activations,
            activations_plain=plain,
            headroom=round(ACTIVATION_MARGIN * activations) + workspace,
            checkpointing=checkpointing,
            why=why,
        )

    return checked(choose(config, plan(False, ""), plan(True, "")), config, memory)
