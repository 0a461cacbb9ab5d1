"""Who takes part, at which learning rates, and in which order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from .trial import Trial

HALF_DECADE = 10**0.5


@dataclass(frozen=True)
class Contender:
    """An optimizer with its options, and the middle of the learning rates it is tried at."""

    optimizer: str
    lr: float
    options: Mapping[str, Any] = field(default_factory=dict)


def autotrustgo(formulation: str, trust_level: float, lr: float) -> Contender:
    """Return AutoTrustGO in one of its settings."""
    options = {"formulation": formulation, "trust_level": trust_level}
    return Contender("autotrustgo", lr, options)


CONTENDERS: Mapping[str, Contender] = MappingProxyType(
    {
        "adamw": Contender("adamw", 2e-3),
        "lion": Contender("lion", 9.5e-4),
        "adafactor": Contender("adafactor", 2e-3),
        "prodigy": Contender("prodigy", 3.2),
        "schedulefree": Contender("schedulefree", 1.6e-3, {"warmup_steps": 5}),
        "autotrustgo .3": autotrustgo("described", 0.3, 2e-3),
        "autotrustgo .4": autotrustgo("described", 0.4, 2e-3),
        "autotrustgo .5": autotrustgo("described", 0.5, 2e-3),
        "published .3": autotrustgo("published", 0.3, 0.63),
        "published .4": autotrustgo("published", 0.4, 0.63),
        "published .5": autotrustgo("published", 0.5, 0.63),
        "emonavi": Contender("emonavi", 6.3e-4),
        "emofact": Contender("emofact", 2e-3),
        "emolynx": Contender("emolynx", 5e-4),
        "emoclan": Contender("emoclan", 1e-3),
        "emozeal": Contender("emozeal", 1e-3),
        "emoneco": Contender("emoneco", 5e-3),
    }
)
"""The middles are the best of five rates, half a decade apart, on the first seed of this task: the
published AutoTrustGO moves hundreds of times less at the same rate. Schedule-free's own warm-up
would outlast the run."""


def trials(contender: str, seeds: Sequence[int], rates: int, steps: int) -> list[Trial]:
    """Return one contender's trials: all rates of the first seed, then of the next."""
    entry = CONTENDERS[contender]
    exponents = [index - (rates - 1) / 2 for index in range(rates)]
    lrs = [float(f"{entry.lr * HALF_DECADE**exponent:.2g}") for exponent in exponents]
    return [
        Trial(contender, entry.optimizer, lr, seed, steps, dict(entry.options))
        for seed in seeds
        for lr in lrs
    ]


def best_rate(results: Sequence[Mapping[str, Any]], contender: str) -> float | None:
    """Return the rate with the lowest mean held-out loss; None without any.

    Only rates tried with the most seeds count: one seed's luck must not beat another rate's mean.
    """
    by_rate: dict[float, list[float]] = {}
    for result in results:
        if result["contender"] == contender:
            by_rate.setdefault(result["lr"], []).append(result["held_out"])
    most = max(map(len, by_rate.values()), default=0)
    means = {lr: sum(losses) / most for lr, losses in by_rate.items() if len(losses) == most}
    return min(means, key=lambda lr: means[lr], default=None)
