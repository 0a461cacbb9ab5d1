"""The experiments behind AutoTrustGO's promised properties; the tests assert them, the docs draw
them.

Every one is seeded and runs in seconds. ``lr`` 1e-4 stands for what suits AdamW; ours gets 1.25 of
it, as the planner gives it.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter

from trustopt.optim import AutoTrustGO, EmoLynx

ADAMW_LR = 1e-4
OUR_LR = 1.25 * ADAMW_LR
LORA_SHAPES = [(16, 64), (64, 16), (16, 128), (128, 16), (32,)]
Make = Callable[[list[Parameter]], torch.optim.Optimizer]


def lion(params: list[Parameter], lr: float) -> torch.optim.Optimizer:
    """Lion is what EmoLynx is while its loss signal is still."""
    return EmoLynx(params, lr, betas=(0.9, 0.99), weight_decay=0.0)


def noisy_gradients(drift: float, scale: float = 1.0, seed: int = 0) -> Iterator[list[Tensor]]:
    """Gradients of a LoRA's shapes: a fixed drift, ``drift`` times as large as the fresh noise."""
    generator = torch.Generator().manual_seed(seed)
    drifts = [drift * torch.randn(s, generator=generator) for s in LORA_SHAPES]
    sizes = [scale * (0.3 + torch.rand((), generator=generator)) for _ in LORA_SHAPES]
    while True:
        yield [
            size * (d + torch.randn(d.shape, generator=generator))
            for size, d in zip(sizes, drifts, strict=True)
        ]


def walk(make: Make, source: Iterator[list[Tensor]], steps: int) -> Tensor:
    """Follow the gradients from 0; return the parameters after each step, ``(steps + 1, N)``."""
    params, optimizer, places = None, None, []
    for grads in itertools.islice(source, steps):
        if params is None:
            params = [Parameter(torch.zeros_like(g)) for g in grads]
            optimizer = make(params)
            places.append(flat(params))
        for p, g in zip(params, grads, strict=True):
            p.grad = g
        optimizer.step()
        places.append(flat(params))
    return torch.stack(places)


def flat(params: Sequence[Parameter]) -> Tensor:
    return torch.cat([p.detach().reshape(-1).clone() for p in params])


def step_lengths(places: Tensor) -> Tensor:
    """L2 length of each step of a walk."""
    return (places[1:] - places[:-1]).norm(dim=1)


def ours(trust_level: float = 0.4, lr: float = OUR_LR) -> Make:
    return lambda params: AutoTrustGO(params, lr, trust_level)


def adamw(params: list[Parameter]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(params, ADAMW_LR)


def path_lengths(drift: float, trust_levels: Sequence[float], steps: int = 200) -> list[float]:
    """P1: how far the parameters travel at each trust level."""
    return [
        float(step_lengths(walk(ours(trust), noisy_gradients(drift), steps)).sum())
        for trust in trust_levels
    ]


def displacement_ratio(drift: float, steps: int = 120) -> float:
    """P2: displacement at 1.25 times AdamW's lr over AdamW's."""
    moved = [
        float(walk(make, noisy_gradients(drift), steps)[-1].norm()) for make in (ours(), adamw)
    ]
    return moved[0] / moved[1]


def scale_change(scale: float, steps: int = 120) -> float:
    """P2: largest relative change of the way when every gradient is multiplied by ``scale``."""
    plain, scaled = (walk(ours(), noisy_gradients(0.3, s), steps) for s in (1.0, scale))
    return float(((scaled - plain).norm(dim=1)[1:] / plain.norm(dim=1)[1:]).max())


def constant_and_alternating(*, shuffled: bool, steps: int = 200) -> tuple[Tensor, Tensor]:
    """P3: the way of elements with gradient 1, and with 3, -1, 3, -1, ...; ``(steps,)`` each.

    Args:
        shuffled: Shuffle the memory that stability is made of after each step.
        steps: How many.
    """
    p = Parameter(torch.zeros(2, 256))
    optimizer = AutoTrustGO([p], OUR_LR)
    generator, ways = torch.Generator().manual_seed(0), []
    for step in range(steps):
        p.grad = torch.ones_like(p)
        p.grad[1] = 3.0 if step % 2 == 0 else -1.0
        optimizer.step()
        if shuffled:
            memory = optimizer.state[p]["exp_avg_sq"].view(-1)
            memory.copy_(memory[torch.randperm(memory.numel(), generator=generator)])
        ways.append(-p.detach().mean(1))
    ways = torch.stack(ways)
    return ways[:, 0], ways[:, 1]


def spike_steps(drift: float, at: int = 100, steps: int = 140) -> tuple[Tensor, float]:
    """P4: each step's length where gradient number ``at`` is 100 times as large; calm length."""

    def source() -> Iterator[list[Tensor]]:
        for step, grads in enumerate(noisy_gradients(drift)):
            yield [100 * g for g in grads] if step == at else grads

    lengths = step_lengths(walk(ours(), source(), steps))
    return lengths, float(lengths[at - 20 : at].mean())


def small_elements(drift: float, steps: int = 120) -> float:
    """P6: way of small steady elements, a 30th of the tensor's mean, over AdamW's, at equal lr."""
    ways = [small_ways(make, drift, steps)[-1] for make in (ours(lr=ADAMW_LR), adamw)]
    return float(ways[0] / ways[1])


def small_ways(make: Make, drift: float, steps: int = 120) -> Tensor:
    """P6: mean way of the small steady elements after each step, ``(steps + 1,)``."""

    def source() -> Iterator[list[Tensor]]:
        generator = torch.Generator().manual_seed(1)
        large = drift * torch.randn(64, 64, generator=generator)
        while True:
            grad = large + torch.randn(64, 64, generator=generator)
            wobble = (1 + 0.3 * torch.randn(64, 8, generator=generator)).abs()
            grad[:, :8] = grad[:, 8:].abs().mean() / 30 * wobble
            yield [grad]

    return walk(make, source(), steps).view(-1, 64, 64)[:, :, :8].abs().mean((1, 2))


@dataclass(frozen=True)
class Course:
    """One optimizer's course over several memorisable tasks; losses relative to the start.

    Attributes:
        training: Training loss every ten steps, ``(T, tasks)``.
        held_out: Loss on clean held-out data, ``(T, tasks)``.
        update_norms: Length of each step, ``(steps,)``; of AutoTrustGO only.
    """

    training: Tensor
    held_out: Tensor
    update_norms: Tensor

    def held_out_at(self, levels: Tensor) -> float:
        """Mean held-out loss at the first moments when the training losses were at ``levels``."""
        firsts = [
            self.held_out[int((self.training[:, task] <= level).nonzero()[0]), task]
            for task, level in enumerate(levels)
        ]
        return float(torch.stack(firsts).mean())


def lowest_common(courses: Sequence[Course]) -> Tensor:
    """The lowest training loss that all courses reached, for each task."""
    return torch.stack([course.training.min(0).values for course in courses]).max(0).values


def memorise(make: Make, steps: int = 1200, num_tasks: int = 12, seed: int = 0) -> Course:
    """P5: learn low-rank changes of frozen two-layer networks from 96 samples with noisy targets.

    All tasks train side by side: adapters of rank 8 for a true change of rank 2, batches of 8, and
    as much noise in the targets as signal.
    """
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape: int) -> Tensor:
        return torch.randn(num_tasks, *shape, generator=generator)

    first, second = randn(64, 32) / 32**0.5, randn(32, 64) / 8.0
    change = (0.7 * randn(64, 2)) @ (randn(2, 32) / 32**0.5)

    def network(x: Tensor, delta: Tensor) -> Tensor:
        return torch.tanh(x @ (first + delta).mT) @ second.mT

    x, x_held_out = randn(96, 32), randn(512, 32)
    y_held_out, clean = network(x_held_out, change), network(x, change)
    y = clean + clean.std() * randn(96, 32)
    downs = [Parameter(d) for d in randn(8, 32) / 32**0.5]
    ups = [Parameter(torch.zeros(64, 8)) for _ in downs]
    optimizer = make(downs + ups)

    def losses(x: Tensor, y: Tensor) -> Tensor:
        delta = torch.stack(ups) @ torch.stack(downs)
        return (network(x, delta) - y).square().mean((1, 2))

    with torch.no_grad():
        starts = losses(x, y), losses(x_held_out, y_held_out)
    training, held_out, update_norms = [], [], []
    for step in range(steps):
        rows = torch.randint(96, (num_tasks, 8, 1), generator=generator).expand(-1, -1, 32)
        optimizer.zero_grad()
        losses(x.gather(1, rows), y.gather(1, rows)).sum().backward()
        if isinstance(optimizer, EmoLynx):
            optimizer.step(loss=1.0)
        else:
            optimizer.step()
        if isinstance(optimizer, AutoTrustGO):
            update_norms.append(optimizer.signals()["update_norm"])
        if step % 10 == 9:
            with torch.no_grad():
                training.append(losses(x, y) / starts[0])
                held_out.append(losses(x_held_out, y_held_out) / starts[1])
    return Course(
        torch.stack(training), torch.stack(held_out), torch.tensor([float(n) for n in update_norms])
    )


MEMORISERS: dict[str, Make] = {
    "AutoTrustGO": lambda params: AutoTrustGO(params, 1.25 * 3e-3),
    "AdamW": lambda params: torch.optim.AdamW(params, 3e-3),
    "Lion": lambda params: lion(params, 6e-4),
}
