"""AutoTrustGO: how much can this gradient be trusted?"""

from collections.abc import Mapping
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from . import autotrustgo_described as described
from . import autotrustgo_published as published
from .chunked_optimizer import ChunkedOptimizer
from .chunks import Chunk

Formulation = Literal["described", "published"]
FORMULATIONS: tuple[Formulation, ...] = ("described", "published")


class AutoTrustGO(ChunkedOptimizer):
    """Steps as far as each gradient can be trusted; no schedule, warm-up or step count.

    The idea, its vocabulary and the document are szxex's. The *described* formulation is this
    project's reading of that document in smooth formulas. For each tensor, with gradient ``g``,
    lr ``eta`` and trust level ``tau``::

        t      = 1 / (1 + (rms(g) / (3 usual))^2)             trust in the gradient's size
        m      = 0.94 m + 0.06 t g / usual
        v      = 0.94 v + 0.06 (t g / usual)^2
        u      = m / sqrt(v)                                  in [-1, 1]
        s      = u^2 / (u^2 + 0.09)                           stability
        r      = f + (1 - f) v / (v + theta^2 mean(v))        rank, the mask; f = 3/8
        C      = mean(s)
        danger = 0.6 (1 - t) + 0.4 F
        p      = p - eta 1.8 e^(2 (tau - 0.4)) * 1.1 C / (C + 0.1)
                     * 1 / (1 + 1.5 (1 - tau) danger) * r s u

    - ``u`` has no unit: how far a weight moves does not depend on the loss's scale, so lr means
      what it means for AdamW. Both averages start at 0 and forget alike: ``u`` begins small and
      grows as its memory fills, and nothing has to count steps.
    - ``s`` is large where signs agree and near 0 where they toss a coin. What samples disagree on
      is mostly their noise: not following it is what delays overfitting.
    - ``r`` favours elements that matter in their tensor, yet never falls below ``f``: small steady
      gradients are thin lines and eyes. ``r s`` is an element's *confidence*.
    - ``C`` is a whole tensor's: as training runs out of signal, steps shrink by themselves.
    - ``usual`` is a running mean of rms(g) that leaps barely move, so a spike hardly enters the
      memories, and ``danger`` brakes the step itself. ``F`` is the running average of
      ``(1 - 1.09 C) / 2``: 0 while every element keeps its sign, near 1/2 where signs are random.
    - ``theta = (0.6 - 0.25 tau) (0.5 + M)``: the more the mask lets through on average (``M``),
      the stricter it gets.

    The *published* formulation is the arithmetic of the published code. There confidence never
    reaches the update, more trust brakes harder, and the step is proportional to the gradient.

    Args:
        params: Parameters or parameter groups; real, dense, of any shape.
        lr: Step size; described: 1.25 times what suits AdamW. Published: about 0.05.
        trust_level: Boldness, clamped to [0, 1]: 0.3 very conservative, 0.4 balanced, 0.5
            aggressive.
        eps: Added to ``sqrt(v)``, which has no unit (published: to the tensor's mean size).
        formulation: ``"described"`` or ``"published"``.
        track_confidence: Published only: keep the confidence it computes in vain, as signals;
            4 bytes a parameter.
        stochastic_rounding: Round updates of bfloat16 parameters at random, without bias.

    State:
        Described, 8 bytes a parameter: ``exp_avg`` and ``exp_avg_sq`` (float32, the parameter's
        shape), ``mean_sq``, ``level``, ``evidence`` (0-dim). Published, 5 bytes: ``momentum``,
        ``prev_sign`` (int8). Shared by all tensors: ``mask_ema``, ``flip_ema``, ``threshold``.

    Raises:
        ValueError: If a hyperparameter is out of range.

    Source:
        szxex/AutoTrustGo@1b5884ea: README.md (the document), optimizer/AutoTrustGO.py (the
        published arithmetic). That samples agree on what generalises: Liu et al. 2020,
        "Understanding Why Neural Networks Generalize Well Through GSNR of Parameters",
        arXiv:2001.07384.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        trust_level: float = 0.4,
        eps: float = 1e-8,
        formulation: Formulation = "described",
        *,
        track_confidence: bool = False,
        stochastic_rounding: bool = False,
    ) -> None:
        if formulation not in FORMULATIONS:
            raise ValueError(f"formulation must be one of {FORMULATIONS}, got {formulation!r}")
        if lr < 0.0:
            raise ValueError(f"lr must be >= 0, got {lr}")
        if eps < 0.0:
            raise ValueError(f"eps must be >= 0, got {eps}")
        if track_confidence and formulation != "published":
            raise ValueError(
                "track_confidence is for formulation='published', which computes its confidence "
                "for nothing else; the described one reports it always"
            )
        self.formulation: Formulation = formulation
        self.track_confidence = track_confidence
        self.slots = dict(self._rule.SLOTS)
        self._columns = self._rule.REPORT
        if track_confidence:
            self.slots |= published.CONFIDENCE_SLOTS
            self._columns += published.CONFIDENCE_REPORT
        self._start = self._rule.initial_statistics(_clamp(trust_level))
        self._statistics: Tensor | None = None
        self._reports: list[tuple[Tensor, Tensor]] = []
        self._signals: dict[str, Tensor] = {}
        defaults = {"lr": lr, "trust_level": trust_level, "eps": eps}
        super().__init__(params, defaults, stochastic_rounding=stochastic_rounding)

    @property
    def _rule(self) -> ModuleType:
        return published if self.formulation == "published" else described

    def signals(self) -> dict[str, Tensor]:
        """Return this step's scalars, 0-dim, still on the device; empty before the first step.

        Averages over tensors: ``mask``, ``danger``, ``lr_effective``, and, where computed,
        ``confidence``, ``confidence_rank``, ``confidence_stability``. Running statistics:
        ``mask_ema``, ``flip_ema``, ``threshold``. ``update_norm``: L2 norm of the whole change.
        """
        return {name: value.clone() for name, value in self._signals.items()}

    def _begin_step(self, loss: Any, present: list[Tensor]) -> None:
        if present and self._statistics is None:
            device = present[0].device
            # float64 keeps the statistics equal to the published Python floats; MPS has none.
            dtype = torch.float32 if device.type == "mps" else torch.float64
            self._statistics = torch.tensor(self._start, dtype=dtype, device=device)

    def _update_group(self, group: dict[str, Any], params: list[Tensor]) -> None:
        settings = {
            "lr": group["lr"],
            "trust": _clamp(group["trust_level"]),
            "eps": group["eps"],
        }
        if self.track_confidence:
            settings["track_confidence"] = True
        assert self._statistics is not None
        for (device, dtype), chunks in self._by_kind(self.chunks(params, self.slots)):
            statistics = self._statistics.to(device)
            now = self._rule.controls(statistics, dtype, **settings)
            self._reports += [self._rule.update_chunk(chunk, self.scratch, now) for chunk in chunks]

    def _end_step(self) -> None:
        if not self._reports or self._statistics is None:
            return
        device = self._statistics.device
        parts = [(report.to(device), norm.to(device)) for report, norm in self._reports]
        report, norms = (torch.cat(column) for column in zip(*parts, strict=True))
        self._reports = []
        means = report.mean(0)
        self._rule.advance(self._statistics, means)
        self._signals = {
            **dict(zip(self._columns, means.unbind(), strict=True)),
            "update_norm": torch.linalg.vector_norm(norms),
            **dict(zip(self._rule.STATISTICS, self._statistics.unbind(), strict=True)),
        }
        if self.formulation == "described":
            self._signals["confidence_rank"] = self._signals["mask"]

    @staticmethod
    def _by_kind(
        chunks: list[Chunk],
    ) -> list[tuple[tuple[torch.device, torch.dtype], list[Chunk]]]:
        """Chunks by what their controls must be on and in."""
        kinds: dict[tuple[torch.device, torch.dtype], list[Chunk]] = {}
        for chunk in chunks:
            kinds.setdefault((chunk.device, chunk.dtype), []).append(chunk)
        return list(kinds.items())

    def _own_state(self) -> dict[str, Any]:
        now = self._start if self._statistics is None else self._statistics.tolist()
        return {
            **super()._own_state(),
            "formulation": self.formulation,
            "statistics": dict(zip(self._rule.STATISTICS, now, strict=True)),
        }

    def _check_own_state(self, own: Mapping[str, Any]) -> None:
        saved = own.get("formulation", "published")
        if saved != self.formulation:
            raise ValueError(
                f"this state is of formulation {saved!r}, the optimizer of {self.formulation!r}; "
                f"resume with formulation={saved!r} or start anew"
            )

    def _load_own_state(self, own: Mapping[str, Any], saved: Mapping[Tensor, Any]) -> None:
        super()._load_own_state(own, saved)
        # Published states carry no statistics: they then begin again, as they did upstream.
        if "statistics" in own:
            self._start = tuple(own["statistics"][name] for name in self._rule.STATISTICS)
        self._statistics = None


def _clamp(trust_level: float) -> float:
    return min(max(float(trust_level), 0.0), 1.0)
