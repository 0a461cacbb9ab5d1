"""AutoTrustGO: how much can this gradient be trusted?"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from . import autotrustgo_published as published
from .chunked_optimizer import ChunkedOptimizer

Formulation = Literal["described", "published"]
FORMULATIONS: tuple[Formulation, ...] = ("published",)


class AutoTrustGO(ChunkedOptimizer):
    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        trust_level: float = 0.4,
        eps: float = 1e-8,
        formulation: Formulation = "published",
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
        self.formulation = formulation
        self.track_confidence = track_confidence
        self.slots = published.SLOTS | (published.CONSENSUS if track_confidence else {})
        self._start = published.initial_statistics(_clamp(trust_level))
        self._statistics: dict[str, Tensor] = {}
        self._reports: list[dict[str, Tensor]] = []
        self._signals: dict[str, Tensor] = {}
        defaults = {"lr": lr, "trust_level": trust_level, "eps": eps}
        super().__init__(params, defaults, stochastic_rounding=stochastic_rounding)

    def signals(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self._signals.items()}

    def _begin_step(self, loss: Any, present: list[Tensor]) -> None:
        if present and not self._statistics:
            device = present[0].device
            # float64 keeps the statistics equal to the published Python floats; MPS has none.
            dtype = torch.float32 if device.type == "mps" else torch.float64
            self._statistics = {
                name: torch.tensor(value, dtype=dtype, device=device)
                for name, value in self._start.items()
            }

    def _update_group(self, group: dict[str, Any], params: list[Tensor]) -> None:
        for chunk in self._chunks(params, self.slots):
            now = published.controls(
                self._statistics,
                chunk.dtype,
                lr=group["lr"],
                trust=_clamp(group["trust_level"]),
                eps=group["eps"],
                track_confidence=self.track_confidence,
            )
            self._reports.append(published.update_chunk(chunk, self._scratch, now))

    def _end_step(self) -> None:
        if not self._reports:
            return
        device = self._statistics["mask_ema"].device
        columns = {
            name: torch.cat([report[name].to(device) for report in self._reports])
            for name in self._reports[0]
        }
        self._reports = []
        step_norm = torch.linalg.vector_norm(columns.pop("step_norm"))
        means = {name: column.mean() for name, column in columns.items()}
        published.advance(self._statistics, means["mask"], means.pop("flip"))
        self._signals = {**means, "update_norm": step_norm, **self._statistics}

    def _own_state(self) -> dict[str, Any]:
        numbers = {name: value.tolist() for name, value in self._statistics.items()}
        return {
            **super()._own_state(),
            "formulation": self.formulation,
            "statistics": numbers or dict(self._start),
        }

    def _check_own_state(self, own: Mapping[str, Any]) -> None:
        saved = own.get("formulation", self.formulation)
        if saved != self.formulation:
            raise ValueError(
                f"this state is of formulation {saved!r}, the optimizer of {self.formulation!r}; "
                f"resume with formulation={saved!r} or start anew"
            )

    def _load_own_state(self, own: Mapping[str, Any], saved: Mapping[Tensor, Any]) -> None:
        super()._load_own_state(own, saved)
        # Published states carry no statistics: they then begin again, as they did upstream.
        self._start = {**self._start, **own.get("statistics", {})}
        self._statistics = {}


def _clamp(trust_level: float) -> float:
    return min(max(float(trust_level), 0.0), 1.0)
