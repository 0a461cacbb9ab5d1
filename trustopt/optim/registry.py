"""Every optimizer a user can choose: its name, its options, and how it is built.

Nodes draw their widgets from :data:`OPTIMIZERS`; the trainer calls :func:`build_optimizer` and
:mod:`~.stepping`, and needs to know no class.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

from torch.optim import Optimizer

from . import baselines
from .autotrustgo import FORMULATIONS, AutoTrustGO
from .emo import EmoOptimizer
from .emoclan import EmoClan
from .emofact import EmoFact
from .emolynx import EmoLynx
from .emonavi import EmoNavi
from .emoneco import EmoNeco
from .emozeal import EmoZeal
from .options import (
    DECOUPLED,
    EPS,
    LOSS_SIGNAL,
    ON_SHOULD_STOP,
    STOCHASTIC_ROUNDING,
    USE_SHADOW,
    VERSION,
    Option,
    betas,
    check_value,
    choice,
    switch,
    weight_decay,
)

SchedulePolicy = Literal["as planned", "constant"]


@dataclass(frozen=True)
class OptimizerSpec:
    """What the rest of the program needs to know of one optimizer.

    Attributes:
        name: Registry key.
        requires: Package it needs beyond torch, by the name to install it under, or None.
        schedule_policy: Whether a planned schedule and warm-up apply, or the lr stays constant.
        lr_factor: What a planned lr is multiplied by.
        steps_factor: What planned steps are multiplied by.
        suggested_lr: Its author's starting point; None takes the plan's.
        takes_loss: Whether its step reads the loss.
    """

    name: str
    label: str
    family: Literal["baseline", "autotrustgo", "emo"]
    description: str
    options: tuple[Option, ...]
    build: Callable[..., Optimizer]
    requires: str | None = None
    schedule_policy: SchedulePolicy = "as planned"
    lr_factor: float = 1.0
    steps_factor: float = 1.0
    suggested_lr: float | None = None
    takes_loss: bool = False

    @property
    def is_available(self) -> bool:
        """Whether the package it needs is installed."""
        return self.requires is None or find_spec(self.requires.replace("-", "_")) is not None


_EMO: tuple[tuple[str, str, type[EmoOptimizer], float | None, str], ...] = (
    ("emonavi", "EmoNavi", EmoNavi, 6e-5, "Adam that brakes while the loss moves fast."),
    (
        "emofact",
        "EmoFact",
        EmoFact,
        1e-4,
        "Adafactor-like, almost no memory; brakes while the loss moves fast.",
    ),
    ("emolynx", "EmoLynx", EmoLynx, 8e-5, "Lion that brakes while the loss moves fast."),
    (
        "emoclan",
        "EmoClan",
        EmoClan,
        None,
        "Switches between Navi, Fact and Lynx by how fast the loss moves.",
    ),
    (
        "emozeal",
        "EmoZeal",
        EmoZeal,
        None,
        "Fact with an extra step while the loss moves. The extra step grows with the gradient.",
    ),
    (
        "emoneco",
        "EmoNeco",
        EmoNeco,
        None,
        "Cautious Lion: steps only where momentum and gradient agree; softer in between.",
    ),
)


def _emo_spec(
    name: str, label: str, cls: type[EmoOptimizer], lr: float | None, description: str
) -> OptimizerSpec:
    options: tuple[Option, ...] = (weight_decay(0.01), USE_SHADOW, LOSS_SIGNAL, ON_SHOULD_STOP)
    if len(cls.default_betas) > 1:
        options = (VERSION, *options)
    if issubclass(cls, EmoLynx | EmoClan):
        options += (DECOUPLED,)
    return OptimizerSpec(
        name=name,
        label=f"{label} (muooon)",
        family="emo",
        description=description,
        options=(*options, EPS, STOCHASTIC_ROUNDING),
        build=cls,
        schedule_policy="constant",
        suggested_lr=lr,
        takes_loss=True,
    )


_SPECS = (
    OptimizerSpec(
        name="autotrustgo",
        label="AutoTrustGO (szxex)",
        family="autotrustgo",
        description="Steps as far as the gradient can be trusted. Needs no schedule, no warm-up.",
        options=(
            Option(
                "trust_level",
                "float",
                0.4,
                0.0,
                1.0,
                0.01,
                tooltip="How bold: 0.3 very conservative, 0.4 balanced, 0.5 aggressive. Style "
                "0.35-0.45, character 0.40-0.55, concept 0.30-0.45, photoreal 0.25-0.40.",
            ),
            choice(
                "formulation",
                FORMULATIONS,
                "described does what the optimizer's document promises. published is the original "
                "code's arithmetic: it needs a far larger lr, near 0.05.",
            ),
            EPS,
            STOCHASTIC_ROUNDING,
        ),
        build=AutoTrustGO,
        schedule_policy="constant",
        lr_factor=1.25,
        steps_factor=1.2,
    ),
    *(_emo_spec(*row) for row in _EMO),
    OptimizerSpec(
        name="adamw",
        label="AdamW",
        family="baseline",
        description="The standard choice, and the one the presets were made with.",
        options=(*betas(0.9, 0.999), weight_decay(0.01), EPS),
        build=baselines.adamw,
    ),
    OptimizerSpec(
        name="adamw8bit",
        label="AdamW 8-bit",
        family="baseline",
        description="AdamW with a quarter of the optimizer memory; NVIDIA and some other GPUs.",
        options=(*betas(0.9, 0.999), weight_decay(0.01), EPS),
        build=baselines.adamw8bit,
        requires="bitsandbytes",
    ),
    OptimizerSpec(
        name="lion",
        label="Lion",
        family="baseline",
        description="Steps by the sign of the momentum; wants a 3 to 10 times smaller lr.",
        options=(*betas(0.9, 0.99), weight_decay(0.0)),
        build=baselines.lion,
        requires="lion-pytorch",
        lr_factor=0.2,
    ),
    OptimizerSpec(
        name="adafactor",
        label="Adafactor",
        family="baseline",
        description="Row and column statistics instead of full ones: almost no memory.",
        options=(weight_decay(0.0),),
        build=baselines.adafactor,
    ),
    OptimizerSpec(
        name="prodigy",
        label="Prodigy",
        family="baseline",
        description="Estimates its own step size; leave lr at 1.",
        options=(
            Option(
                "d_coef",
                "float",
                1.0,
                0.1,
                10.0,
                0.1,
                tooltip="Multiplies the step size it estimates. 1 to start, 2 for more drive.",
            ),
            weight_decay(0.01),
            switch(
                "use_bias_correction", True, "Adam's correction of the first steps. On for LoRAs."
            ),
        ),
        build=baselines.prodigy,
        requires="prodigyopt",
        schedule_policy="constant",
        suggested_lr=1.0,
    ),
    OptimizerSpec(
        name="schedulefree",
        label="Schedule-free AdamW",
        family="baseline",
        description="Averages the weights instead of lowering the lr; needs no schedule.",
        options=(
            *betas(0.9, 0.999),
            weight_decay(0.01),
            Option(
                "warmup_steps",
                "int",
                100,
                0,
                10_000,
                10,
                tooltip="Its own warm-up, in steps. 100 for a LoRA.",
            ),
        ),
        build=baselines.schedulefree,
        requires="schedulefree",
        schedule_policy="constant",
    ),
)

OPTIMIZERS: dict[str, OptimizerSpec] = {spec.name: spec for spec in _SPECS}


def find_optimizer(name: str) -> OptimizerSpec:
    """Return a registry entry.

    Raises:
        ValueError: If there is none of that name; the message lists those there are.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {name!r}; choose one of {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name]


def resolve_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return every option of an optimizer: the user's value, checked, or the default.

    Raises:
        ValueError: If the optimizer or an option is unknown, or a value is out of range.
    """
    spec = find_optimizer(name)
    known = {option.name: option for option in spec.options}
    for key in options:
        if key not in known:
            raise ValueError(
                f"{spec.label} has no option {key!r}; it has {', '.join(known) or 'none'}"
            )
    return {
        key: check_value(option, options.get(key, option.default), spec.label)
        for key, option in known.items()
    }


def build_optimizer(
    name: str, params: Iterable[Any], *, lr: float, options: Mapping[str, Any]
) -> Optimizer:
    """Build an optimizer by its registry name, for a trainer that gives it the loss of all ranks.

    Args:
        name: Key of :data:`OPTIMIZERS`.
        params: Parameters or parameter groups.
        lr: Step size, already resolved by ``lr_factor``.
        options: The user's; those for the trainer are checked and left out.

    Raises:
        ValueError: If name, an option or a value is not allowed, or a package is missing.
    """
    spec = find_optimizer(name)
    values = resolve_options(name, options)
    if not (lr > 0.0 and math.isfinite(lr)):
        raise ValueError(f"lr must be above 0 and finite, got {lr}; 1e-4 is a usual start")
    if not spec.is_available:
        raise ValueError(
            f"{spec.label} needs the package {spec.requires}: run  pip install {spec.requires}  "
            "in ComfyUI's Python, or choose another optimizer"
        )
    own = {o.name: values[o.name] for o in spec.options if not o.for_trainer}
    optimizer = spec.build(params, lr=lr, **own)
    if isinstance(optimizer, EmoOptimizer):
        optimizer.average_over_ranks = False
    return optimizer
