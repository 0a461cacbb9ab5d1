"""Parameters of every shape and gradients for them, for the optimizer tests."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import Parameter

from trustopt.optim import AutoTrustGO, EmoClan, EmoFact, EmoLynx, EmoNavi, EmoNeco, EmoZeal

SHAPES = [(8, 4), (4, 8), (6,), (3, 2, 3, 3), (), (0, 5), (16, 40), (5, 7, 2), (70,), (4, 8)]
Build = Callable[..., torch.optim.Optimizer]
OURS: dict[str, Build] = {
    "described": lambda params, **k: AutoTrustGO(params, formulation="described", **k),
    "published": lambda params, **k: AutoTrustGO(params, formulation="published", **k),
    "navi": EmoNavi,
    "fact": EmoFact,
    "lynx": EmoLynx,
    "clan": EmoClan,
    "zeal": EmoZeal,
    "neco": EmoNeco,
    "navi 3.6": lambda params, **k: EmoNavi(params, version="3.6", **k),
    "fact 3.6": lambda params, **k: EmoFact(params, version="3.6", **k),
    "lynx 3.6": lambda params, **k: EmoLynx(params, version="3.6", **k),
}


def make_params(
    shapes: Sequence[tuple[int, ...]] = SHAPES, dtype: torch.dtype = torch.float32, seed: int = 0
) -> list[Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [Parameter(torch.randn(s, generator=generator).to(dtype)) for s in shapes]


def gradients(
    shapes: Sequence[tuple[int, ...]] = SHAPES, *, drift: float = 0.3, seed: int = 1
) -> Iterator[list[Tensor]]:
    """Endless gradients: a fixed drift and fresh noise, of another size in each tensor."""
    generator = torch.Generator().manual_seed(seed)
    drifts = [drift * torch.randn(s, generator=generator) for s in shapes]
    sizes = [0.3 + torch.rand((), generator=generator) for _ in shapes]
    while True:
        yield [
            size * (d + torch.randn(d.shape, generator=generator))
            for size, d in zip(sizes, drifts, strict=True)
        ]


def losses(seed: int = 2) -> Iterator[float]:
    """Endless losses that swing enough to visit every band of every Emo variant."""
    generator = torch.Generator().manual_seed(seed)
    step = 0
    while True:
        level = 0.15 if step % 30 < 22 else 0.6
        yield level * float(torch.rand((), generator=generator) + 0.5)
        step += 1


def set_grads(params: Sequence[Parameter], grads: Sequence[Tensor | None]) -> None:
    for p, grad in zip(params, grads, strict=True):
        p.grad = None if grad is None else grad.to(p.dtype).clone()
