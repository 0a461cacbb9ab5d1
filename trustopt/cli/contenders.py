"""Ways to take a training step, to be timed against each other: the engine's and a plain loop."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..adapters import AdapterSet
from ..config import JobConfig
from ..data import Batch, BatchStream
from ..diffusion import Objective
from ..host import Conditioning, Geometry, Host
from ..optim import build_optimizer
from ..train.graphs import StepGraphs
from ..train.loop import Run, gradients, train_step
from .live_bytes import LiveBytes

LR = 1e-4
TOKENS = 77


class Contender(Protocol):
    """One way to train."""

    def step(self) -> None:
        """Take one optimizer step."""
        ...

    def tensors(self) -> list[Tensor]:
        """Return what is in memory between steps."""
        ...


@dataclass(frozen=True)
class Data:
    """The one batch that all contenders train on."""

    latents: Tensor
    conditioning: Conditioning

    @classmethod
    def of(
        cls,
        batch: int,
        pixels: int,
        widths: tuple[int, int],
        *,
        channels: int = 4,
        tokens: int = TOKENS,
    ) -> "Data":
        """Draw a batch of square pictures, each with its own caption; by default for SDXL.

        Args:
            batch: Pictures.
            pixels: Their side.
            widths: Of a prompt's context and pooled vector.
            channels: Of the latents.
            tokens: Of a prompt.
        """
        generator = torch.Generator().manual_seed(batch)
        side, size = pixels // 8, (pixels, pixels)
        prompts = [
            {
                "context": torch.randn(tokens, widths[0], generator=generator),
                "pooled": torch.randn(widths[1], generator=generator),
            }
            for _ in range(batch)
        ]
        geometry = [Geometry(original=size, crop=(0, 0), target=size)] * batch
        latents = torch.randn(batch, channels, side, side, generator=generator)
        return cls(latents, Conditioning(prompts=prompts, geometry=geometry))


class EndlessBatches:
    """Stands for a ``BatchStream``: the same batch again and again."""

    epoch = 1

    def __init__(self, data: Data) -> None:
        self.batch = Batch(
            latents=data.latents,
            prompts=data.conditioning.prompts,
            captions=[""] * len(data.latents),
            geometry=data.conditioning.geometry,
            masks=None,
            loss_weights=torch.ones(len(data.latents)),
            indices=range(len(data.latents)),
            is_regularisation=False,
        )

    def __next__(self) -> Batch:
        return self.batch


class Ours:
    """The engine's own step, in a host's session.

    Args:
        host: The host.
        adapters: What is trained.
        data: The batch.
        graphs: Whether steps are recorded and replayed, on a GPU.
    """

    def __init__(
        self, host: Host, adapters: AdapterSet, data: Data, *, graphs: bool = False
    ) -> None:
        config = JobConfig(name="bench", steps=10**9, lr=LR, batch_size=len(data.latents))
        options = {"weight_decay": 0.01}
        self.run = Run(
            job=config,
            host=host,
            adapters=adapters,
            optimizer=build_optimizer("adamw", adapters.parameter_groups(), lr=LR, options=options),
            objective=Objective(config.objective, prediction=host.prediction, sigmas=host.sigmas),
            batches=cast(BatchStream, EndlessBatches(data)),
            generator=torch.Generator().manual_seed(0),
        )
        if graphs:
            self.run.graphs = StepGraphs(self.run.parameters, host.weights_in_place, print)

    def step(self) -> None:
        """Take one optimizer step."""
        train_step(self.run)
        self.run.optimizer.zero_grad(set_to_none=True)

    def gradient(self) -> Tensor:
        """Return the whole gradient of the first step, of a LoRA that changes something."""
        parameters, generator = self.run.parameters, torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in parameters:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(0.01 * noise.to(parameter.device))
        gradients(self.run)
        found = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
        self.run.optimizer.zero_grad(set_to_none=True)
        return found

    def tensors(self) -> list[Tensor]:
        """Return adapters and optimizer state."""
        return [*self.run.parameters, *state_tensors(self.run.optimizer)]


class PlainLora(nn.Module):
    """``linear(x) + scale * x A^T B^T``, left to autograd."""

    def __init__(self, linear: nn.Module, rank: int, scale: float) -> None:
        super().__init__()
        self.linear = linear
        shape: Any = linear
        device = shape.weight.device
        self.down = nn.Parameter(torch.randn(rank, shape.in_features, device=device) / rank)
        self.up = nn.Parameter(torch.zeros(shape.out_features, rank, device=device))
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., in)`` to ``(..., out)``."""
        down, up = self.down.to(x.dtype), self.up.to(x.dtype)
        return self.linear(x) + functional.linear(functional.linear(x, down), up) * self.scale


class PlainLoop:
    """A training loop without any of the engine.

    Args:
        forward: Runs the network on noised latents and sigma.
        parameters: What is trained.
        data: The batch.
        flow: Whether the network predicts a flow, and not the noise.
    """

    def __init__(
        self,
        forward: Callable[[Tensor, Tensor], Tensor],
        parameters: list[Tensor],
        data: Data,
        *,
        flow: bool = False,
    ) -> None:
        self.forward, self.parameters, self.data, self.flow = forward, parameters, data, flow
        self.optimizer = torch.optim.AdamW(parameters, lr=LR, weight_decay=0.01, fused=True)
        self.generator = torch.Generator().manual_seed(0)

    def step(self) -> None:
        """Take one optimizer step."""
        latents = self.data.latents.to(self.parameters[0].device)
        noise = torch.randn(latents.shape, generator=self.generator).to(latents.device)
        level = torch.rand(len(latents), generator=self.generator).to(latents.device)
        if self.flow:
            share = level.view(-1, 1, 1, 1)
            output = self.forward((1.0 - share) * latents + share * noise, level)
            target = noise - latents
        else:
            sigma = level * 10.0 + 0.1
            output = self.forward(latents + sigma.view(-1, 1, 1, 1) * noise, sigma)
            target = noise
        loss = functional.mse_loss(output.float(), target)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        loss.item()

    def tensors(self) -> list[Tensor]:
        """Return adapters and optimizer state."""
        return [*self.parameters, *state_tensors(self.optimizer)]


def taken_in_turns(
    contenders: Sequence[Contender], rounds: int, device: torch.device
) -> list[list[float]]:
    """Return each contender's seconds a step, round by round, after one step to warm up.

    On a CPU it is processor time, which other programs do not lengthen.
    """
    times: list[list[float]] = [[] for _ in contenders]
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    for number in range(rounds + 1):
        for contender, own in zip(contenders, times, strict=True):
            _wait_for(device)
            started = clock()
            contender.step()
            _wait_for(device)
            if number > 0:
                own.append(clock() - started)
    return times


def alone_on_gpu(
    contender: Contender, rounds: int, device: torch.device, *, warm_up: int = 3
) -> tuple[list[float], int]:
    """Return a contender's seconds a step, and the bytes torch holds at most, all in all.

    Held is more than used: it counts the allocator's gaps, and the memory of recordings.
    """
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    for _ in range(warm_up):
        contender.step()
    times = taken_in_turns([contender], rounds, device)[0]
    return times, torch.cuda.max_memory_reserved(device)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def ratio(times: Sequence[float], reference: Sequence[float]) -> float:
    """Return the median over rounds of one contender's time over another's."""
    return statistics.median(a / b for a, b in zip(times, reference, strict=True))


def peak_bytes(contender: Contender, network: nn.Module) -> int:
    """Return the most that one more step makes live at once, besides what is there before it."""
    known = [*network.parameters(), *network.buffers(), *contender.tensors()]
    counted = LiveBytes(known)
    with counted:
        contender.step()
    return counted.peak


def state_tensors(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Return an optimizer's state."""
    states = optimizer.state.values()
    return [value for state in states for value in state.values() if isinstance(value, Tensor)]
