"""AutoTrustGO one tensor at a time, as plainly as its formulas read.

Published arithmetic: szxex/AutoTrustGo@c82f70e0:optimizer/AutoTrustGO.py. Described: the class
docstring of trustopt/optim/autotrustgo.py.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Plain:
    """One run of either formulation. ``step`` takes and changes float32 or float64 tensors."""

    lr: float
    trust: float = 0.4
    eps: float = 1e-8
    mask_ema: float = 0.0
    flip_ema: float = 0.0
    state: dict[int, dict[str, Tensor | float]] = field(default_factory=dict)

    def step(self, params: list[Tensor], grads: list[Tensor | None], lrs: list[float]) -> None:
        masks, flips = [], []
        self.begin()
        for i, (p, g, lr) in enumerate(zip(params, grads, lrs, strict=True)):
            if g is None or not g.numel():
                continue
            if i not in self.state:
                self.state[i] = self.new_state(p)
            mask, flip = self.update(p, g, self.state[i], lr)
            masks.append(mask)
            flips.append(flip)
        if masks:
            self.mask_ema += 0.08 * (sum(masks) / len(masks) - self.mask_ema)
            self.flip_ema += 0.08 * (sum(flips) / len(flips) - self.flip_ema)
            self.end()

    def begin(self) -> None: ...

    def end(self) -> None: ...


@dataclass
class PlainPublished(Plain):
    """The published formulation."""

    threshold: float = math.nan

    def begin(self) -> None:
        if math.isnan(self.threshold):
            self.threshold = 0.60 - 0.25 * self.trust

    def new_state(self, p: Tensor) -> dict[str, Tensor | float]:
        return {"momentum": torch.zeros_like(p), "prev_sign": torch.zeros_like(p)}

    def update(self, p: Tensor, g: Tensor, state: dict, lr: float) -> tuple[float, float]:
        flip = float((g.sign() != state["prev_sign"]).to(p.dtype).mean())
        state["prev_sign"] = g.sign()
        relative = g.abs() / (g.abs().mean() + self.eps)
        floor = 0.08 + 0.22 * (1 - self.mask_ema)
        temperature = 0.15 + 0.2 * (1 - self.mask_ema)
        gate = torch.sigmoid((relative - self.threshold) / temperature)
        mask = floor + (1 - floor) * gate
        state["momentum"] = 0.94 * state["momentum"] + g
        d = (g + 0.94 * state["momentum"]) * mask
        norm = float(d.norm())
        danger = 0.6 * norm / (norm + 1) + 0.4 * self.flip_ema
        brake = 1 + danger * self.trust * (0.4 + 0.4 * float(mask.mean())) * norm
        slow = max(0.6, 1 - (0.15 + 0.15 * self.trust) * self.flip_ema)
        p -= lr * slow * d / brake
        return float(mask.mean()), flip

    def end(self) -> None:
        if self.mask_ema < 0.10:
            self.threshold *= 0.995
        elif self.mask_ema > 0.35:
            self.threshold *= 1.005
        self.threshold = min(max(self.threshold, 0.3), 0.7)


@dataclass
class PlainDescribed(Plain):
    """The described formulation."""

    def new_state(self, p: Tensor) -> dict[str, Tensor | float]:
        zero = torch.zeros_like(p)
        return {"m": zero, "v": zero, "mean_sq": 0.0, "level": 0.0, "evidence": 0.0}

    def update(self, p: Tensor, g: Tensor, state: dict, lr: float) -> tuple[float, float]:
        size = float(g.square().mean().sqrt())
        usual = (state["level"] + 0.02 * size) / (state["evidence"] + 0.02) + 1e-20
        t = 1 / (1 + (size / (3 * usual)) ** 2)
        state["level"] = 0.94 * state["level"] + 0.06 * size * math.sqrt(t)
        state["evidence"] = 0.94 * state["evidence"] + 0.06 * (size > 0)
        state["mean_sq"] = 0.94 * state["mean_sq"] + 0.06 * (t * size / usual) ** 2

        weighed = t * g / usual
        state["m"] = m = 0.94 * state["m"] + 0.06 * weighed
        state["v"] = v = 0.94 * state["v"] + 0.06 * weighed**2
        u = m / (v.sqrt() + self.eps)
        s = u**2 / (u**2 + 0.09)
        theta = (0.6 - 0.25 * self.trust) * (0.5 + self.mask_ema)
        r = 0.375 + 0.625 * v / (v + theta**2 * state["mean_sq"] + 1e-20)
        confidence = float(s.mean())
        danger = 0.6 * (1 - t) + 0.4 * self.flip_ema
        eta = lr * 1.8 * math.exp(2 * (self.trust - 0.4))
        sure = 1.1 * confidence / (confidence + 0.1)
        p -= eta * sure / (1 + 1.5 * (1 - self.trust) * danger) * r * s * u
        return float(r.mean()), (1 - 1.09 * confidence) / 2
