"""The memory plan: what a run needs, made before step 1, and how to make it fit.

``plan_memory`` adds up what will be on the device, chooses gradient checkpointing where the job
says ``auto``, lets the host leave weights off the device where it can, and otherwise refuses with
what would help.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..adapters import AdapterSet
from ..adapters.targets import is_text_encoder
from ..config import JobConfig
from ..host import Host
from ..optim import build_optimizer, step_optimizer
from .activations import Workload, activation_bytes

MIB, GIB = 2**20, 2**30

ACTIVATION_MARGIN = 0.1
"""Share of the activations kept free on top: the estimate's error and the allocator's gaps."""
WORKSPACE: Mapping[str, int] = {"cuda": 512 * MIB, "xpu": 512 * MIB, "cpu": 128 * MIB}
"""Bytes kept free besides, by kind of device: the libraries' own buffers, a weight being cast."""
RESOLUTION_STEP = 64
"""Pixels; what a proposed resolution is rounded down to."""
SMALLEST_RESOLUTION = 256
"""Pixels; below, none is proposed."""


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """What a run will keep on its device, in bytes, and what was decided about it."""

    device: str
    available: int | None
    """What the device can give to the model and its training; None if nobody can tell."""
    can_offload: bool
    """Whether weights that do not fit can stay off the device."""
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
    workspace: int
    """Kept free for the libraries' own buffers."""
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
    def headroom(self) -> int:
        """Kept free on top of ``total``."""
        return round(ACTIVATION_MARGIN * self.activations) + self.workspace

    @property
    def reserve(self) -> int:
        """What the host must leave free of weights."""
        return self.growth + self.headroom

    @property
    def missing(self) -> int:
        """Bytes that do not fit, headroom left out; 0 if all do or nobody can tell."""
        return 0 if self.available is None else max(0, self.total - self.available)

    @property
    def spare(self) -> int:
        """Bytes left with the headroom kept; below 0 if it cannot be. Only where known."""
        return 0 if self.available is None else self.available - self.total - self.headroom

    @property
    def left_off(self) -> int:
        """Bytes of the base model's weights that the host leaves off the device."""
        return min(self.weights, max(0, -self.spare)) if self.can_offload else 0

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
            lines.append(
                f"{gib(self.left_off)} of the base model stay off the device and are fetched "
                "when they are needed: slower"
            )
        elif self.spare < 0:
            lines.append(f"this is tight: {gib(self.spare + self.headroom)} are left free")
        return "\n".join(lines)

    def compared_with(self, grown: int | None) -> str:
        """Return the measured growth next to the planned one, for people."""
        measured = "could not be measured here" if grown is None else f"took {gib(grown)}"
        return f"steps {measured} on {self.device}; {gib(self.growth)} were planned"

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
    memory, trained = host.memory(), 4 * adapters.num_parameters
    trains_text = any(is_text_encoder(name) for name in adapters)
    work = Workload(
        batch=config.batch_size,
        latent_area=largest_area // host.pixels_per_latent**2,
        itemsize=host.dtype.itemsize,
    )
    plain, recomputed = activation_bytes(host.layers(), adapters, host.family, work)
    without = MemoryPlan(
        device=str(host.device),
        # The adapters are there already, and not free any more.
        available=None if memory.available is None else memory.available + trained,
        can_offload=memory.can_offload,
        weights=memory.weights + (memory.text_encoders if trains_text else 0),
        adapters=trained * (2 if config.ema_decay else 1),
        gradients=trained,
        optimizer=optimizer_bytes(config, adapters),
        activations=plain,
        activations_plain=plain,
        workspace=WORKSPACE.get(host.device.type, WORKSPACE["cuda"]),
        checkpointing=False,
        why="",
    )
    chosen = choose(config.checkpointing, without, recomputed)
    if chosen.missing > (chosen.weights if chosen.can_offload else 0):
        raise ValueError(refusal(config, chosen, recomputed))
    return chosen


def choose(
    setting: Literal["auto", "on", "off"], without: MemoryPlan, recomputed: int
) -> MemoryPlan:
    """Decide about checkpointing.

    Args:
        setting: ``JobConfig.checkpointing``.
        without: The plan without it.
        recomputed: Activations with it, in bytes.
    """
    with_it = replace(without, checkpointing=True, activations=recomputed)
    if setting != "auto":
        return replace(with_it if setting == "on" else without, why="as the job says")
    if without.available is None:
        return replace(with_it, why="how much memory is free cannot be told here")
    if without.spare >= 0:
        return replace(without, why="everything fits without it")
    return replace(
        with_it, why=f"without it activations take {gib(without.activations)}, which does not fit"
    )


def refusal(config: JobConfig, plan: MemoryPlan, recomputed: int) -> str:
    """Return why a plan cannot be carried out and what would help, the remedies first."""
    assert plan.available is not None
    remedies = []
    if not plan.checkpointing:
        remedies.append(f"set checkpointing to on (activations take {gib(recomputed)} then)")
    for_activations = plan.available - (plan.total - plan.activations)
    if for_activations > 0:
        share = for_activations / plan.activations
        side = int(config.data.resolution * share**0.5) // RESOLUTION_STEP * RESOLUTION_STEP
        if config.batch_size * share >= 1.0:
            remedies.append(f"lower batch_size to {int(config.batch_size * share)}")
        if side >= SMALLEST_RESOLUTION:
            remedies.append(f"lower the resolution to {side}")
    if plan.weights > plan.available // 2:
        remedies.append("load the base model in fp8 or another smaller form")
    if plan.total - plan.weights - plan.activations > plan.available // 4:
        remedies.append("lower the rank")
    ways = "; ".join(remedies) or "lower the resolution, the batch size or the rank"
    return (
        f"this run needs {gib(plan.total)} on {plan.device}, and {gib(plan.available)} are free: "
        f"{ways}\n{plan.report()}"
    )


def optimizer_bytes(config: JobConfig, adapters: AdapterSet) -> int:
    """Return the bytes of the optimizer's state, measured by one step on the largest layer."""
    layers: dict[str, list[nn.Parameter]] = {}
    for layer in adapters:
        tensors = adapters.tensors(layer).values()
        layers[layer] = [p for p in tensors if isinstance(p, nn.Parameter)]
    largest = max(layers.values(), key=lambda ps: sum(p.numel() for p in ps))
    trial = [nn.Parameter(torch.zeros(p.shape)) for p in largest]
    optimizer = build_optimizer(
        config.optimizer.name, trial, lr=config.lr, options=config.optimizer.options
    )
    for parameter in trial:
        parameter.grad = torch.full_like(parameter, 1e-3)
    step_optimizer(optimizer, torch.ones(()))
    state = sum(t.numel() * t.element_size() for t in _tensors_in(optimizer.state_dict()["state"]))
    return round(state / sum(p.numel() for p in trial) * adapters.num_parameters)


def gib(count: float) -> str:
    """Return bytes to read: ``5.14 GiB``, ``85 MiB``, ``3 KiB``."""
    if count >= GIB:
        return f"{count / GIB:.2f} GiB"
    return f"{count / MIB:.0f} MiB" if count >= MIB else f"{count / 1024:.0f} KiB"


def _tensors_in(node: Any) -> Iterator[Tensor]:
    if isinstance(node, Tensor):
        yield node
    elif isinstance(node, Mapping):
        for child in node.values():
            yield from _tensors_in(child)
    elif isinstance(node, list | tuple):
        for child in node:
            yield from _tensors_in(child)
