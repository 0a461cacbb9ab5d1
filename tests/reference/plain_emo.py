"""The Emo family one tensor at a time, as plainly as its formulas read.

Source: muooon/EmoNavi@b1da9a59 (v3.0), @b1767a99 (v3.6), as the docstrings under trustopt/optim
state them. Tensors are float32 or float64 and changed in place.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class PlainEmo:
    """One run of one variant, with every gradient present in every step."""

    variant: str
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    lynx_betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-8
    weight_decay: float = 0.01
    use_shadow: bool = False
    version: str = "3.0"
    averages: list[float] = field(default_factory=list)  # short, medium, long
    state: dict[int, dict[str, Tensor]] = field(default_factory=dict)

    def step(self, params: list[Tensor], grads: list[Tensor], loss: float) -> None:
        rates = (0.3, 0.05, 0.01)
        self.averages = self.averages or [loss] * 3
        self.averages = [
            rate * loss + (1 - rate) * average
            for rate, average in zip(rates, self.averages, strict=True)
        ]
        s = self.scalar()
        for i, (p, g) in enumerate(zip(params, grads, strict=True)):
            state = self.state.setdefault(i, {})
            if self.use_shadow:
                self.mix_shadow(p, abs(s), state)
            self.update(p, g, abs(s), self.lr * self.factor(s), state)

    def scalar(self) -> float:
        short, medium, long = self.averages
        if self.version == "3.0":
            return math.tanh(5 * (short - long))
        fall, medium, long = long - short, max(medium, 1e-5), max(long, 1e-5)
        by_medium, by_long = fall / medium, fall / long
        if abs(by_long) >= 0.05 and abs(by_medium) * medium < abs(by_long) * long:
            return math.tanh(by_medium)
        return math.tanh(by_long)

    def factor(self, s: float) -> float:
        a = abs(s)
        if self.version == "3.0" or a > 0.75:
            return 1 - a
        trust = math.copysign(1 - a, s)
        return 8 * abs(trust) * (1 + 0.1 * trust) if 0.25 < a < 0.5 else 1.0

    def mix_shadow(self, p: Tensor, a: float, state: dict[str, Tensor]) -> None:
        if "shadow" not in state:
            if self.version == "3.6" or a > 0.1:
                state["shadow"] = p.clone()
            return
        shadow = state["shadow"]
        if self.version == "3.0" and a > 0.1:
            p.copy_((1 - a) * p + a * shadow)
            shadow += 0.05 * (p - shadow)
        elif self.version == "3.6" and 0.625 < a < 1:
            p.copy_(a * p + (1 - a) * shadow)
        elif self.version == "3.6":
            shadow += 0.1 * (1 - a) * (p - shadow)

    def update(self, p: Tensor, g: Tensor, a: float, size: float, state: dict) -> None:
        variant = self.variant
        if variant == "clan":
            variant = "lynx" if a > 0.6 else "fact" if a > 0.3 else "navi"
            state = state.setdefault(variant, {})
        if variant == "zeal":
            self.extra(p, g, a, size)
        decay = 1 - self.lr * self.weight_decay
        if variant == "fact" and self.version == "3.6":
            p.copy_(decay * p - size * g.sign())
        elif variant in ("lynx", "neco"):
            direction = self.lion(g, a, state, soft=variant == "neco")
            p.copy_(decay * p - size * direction)
        elif variant in ("fact", "zeal") and p.dim() >= 2:
            p.copy_(decay * p - size * self.factored(g, state))
        else:
            p.copy_(decay * p - size * self.adam(g, state))

    def adam(self, g: Tensor, state: dict) -> Tensor:
        beta1, beta2 = self.betas
        state["m"] = beta1 * state.get("m", 0) + (1 - beta1) * g
        state["v"] = beta2 * state.get("v", 0) + (1 - beta2) * g**2
        return state["m"] / (state["v"].sqrt() + self.eps)

    def factored(self, g: Tensor, state: dict) -> Tensor:
        beta1 = self.betas[0]
        rows = (g.pow(2).mean(tuple(range(1, g.dim())), keepdim=True) + self.eps).sqrt()
        columns = (g.pow(2).mean(0, keepdim=True) + self.eps).sqrt()
        state["r"] = beta1 * state.get("r", 0) + (1 - beta1) * rows
        state["c"] = beta1 * state.get("c", 0) + (1 - beta1) * columns
        return g / ((state["r"] * state["c"]).sqrt() + self.eps)

    def lion(self, g: Tensor, a: float, state: dict, *, soft: bool) -> Tensor:
        beta1, beta2 = self.lynx_betas if self.variant == "clan" else self.betas
        m = state.get("m", torch.zeros_like(g))
        b = beta1 * m + (1 - beta1) * g
        state["m"] = beta2 * m + (1 - beta2) * g
        if not soft:
            return b.sign()
        if 0.2 < a <= 0.5:
            return (g.norm() + self.eps) * b / (1 + b.abs())
        return torch.where(b.sign() == g.sign(), b.sign(), 0.0)

    def extra(self, p: Tensor, g: Tensor, a: float, size: float) -> None:
        b = (1 - self.betas[0]) * g
        if p.dim() >= 2 and a > 0.6:
            p -= size * b.sign()
        elif p.dim() >= 2 and a > 0.1:
            p -= size * (g.norm() + self.eps) * b / (1 + b.abs())
