"""Every optimizer a user can choose: its name, its options, and how it is built and stepped.

Nodes draw their widgets from :data:`OPTIMIZERS`; the trainer calls :func:`build_optimizer`,
:func:`step_optimizer` and :func:`optimizer_signals`, and needs to know no class.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

from torch import Tensor
from torch.optim import Optimizer

from . import baselines
from .autotrustgo import FORMULATIONS, AutoTrustGO
from .chunked_optimizer import ChunkedOptimizer
from .emo import EmoOptimizer
from .emoclan import EmoClan
from .emofact import EmoFact
from .emolynx import EmoLynx
from .emonavi import EmoNavi
from .emoneco import EmoNeco
from .emozeal import EmoZeal
from .loss_signal import VERSIONS

Kind = Literal["float", "int", "bool", "choice"]
SchedulePolicy = Literal["as planned", "constant"]


@dataclass(frozen=True)
class Option:
    """One tunable of one optimizer; nodes make a widget of it.

    Attributes:
        name: Key in the options a user passes.
        default: What holds when the user sets nothing.
        minimum, maximum, step: Of a number; None where nothing bounds it.
        choices: Of a ``choice``.
        tooltip: One or two sentences with a number to start from.
        for_trainer: Whether the training loop obeys it instead of the optimizer.
    """

    name: str
    kind: Kind
    default: Any
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()
    tooltip: str = ""
    for_trainer: bool = False


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


def _rate(name: str, default: float, tooltip: str, maximum: float = 0.99999) -> Option:
    return Option(name, "float", default, 0.0, maximum, 0.001, tooltip=tooltip)


def _switch(name: str, default: bool, tooltip: str) -> Option:
    return Option(name, "bool", default, tooltip=tooltip)


def _choice(
    name: str, choices: tuple[str, ...], tooltip: str, *, for_trainer: bool = False
) -> Option:
    return Option(
        name, "choice", choices[0], choices=choices, tooltip=tooltip, for_trainer=for_trainer
    )


def _betas(beta1: float, beta2: float) -> tuple[Option, Option]:
    return (
        _rate(
            "beta1",
            beta1,
            f"Memory of the gradient's mean; {beta1} remembers about "
            f"{round(1 / (1 - beta1))} steps.",
        ),
        _rate(
            "beta2",
            beta2,
            f"Memory of the gradient's size; {beta2} remembers about "
            f"{round(1 / (1 - beta2))} steps.",
        ),
    )


def _weight_decay(default: float) -> Option:
    return Option(
        "weight_decay",
        "float",
        default,
        0.0,
        1.0,
        0.001,
        tooltip=f"Shrinks the weights by lr times this each step. {default} is usual for LoRAs.",
    )


EPS = Option("eps", "float", 1e-8, 0.0, 1e-2, 1e-9, tooltip="Keeps divisions finite. Leave 1e-8.")
STOCHASTIC_ROUNDING = _switch(
    "stochastic_rounding",
    False,
    "Only for bfloat16 adapters: rounds at random so that small updates are not lost.",
)
ON_SHOULD_STOP = _choice(
    "on_should_stop",
    ("ignore", "stop", "save and go on"),
    "What to do when the loss signal stayed flat for 32 steps. It is a hint, not a verdict: "
    "start with ignore.",
    for_trainer=True,
)
LOSS_SIGNAL = _choice(
    "loss_signal",
    ("timestep-normalised", "raw"),
    "Which loss the optimizer hears. Timestep-normalised divides out how hard each noise level is, "
    "so that it hears the training and not the dice.",
    for_trainer=True,
)
USE_SHADOW = _switch(
    "use_shadow",
    False,
    "Keeps a slow copy of the adapter and mixes it in while the loss moves fast. Costs 4 bytes a "
    "parameter.",
)
VERSION = _choice(
    "version",
    VERSIONS,
    "3.0 brakes on any fast change of the loss. 3.6 compares it with the loss's own size and "
    "speeds up on moderate changes.",
)
DECOUPLED = _switch(
    "decoupled_weight_decay", False, "Makes weight decay independent of the learning rate."
)

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
    options: tuple[Option, ...] = (_weight_decay(0.01), USE_SHADOW, LOSS_SIGNAL, ON_SHOULD_STOP)
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
            _choice(
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
        options=(*_betas(0.9, 0.999), _weight_decay(0.01), EPS),
        build=baselines.adamw,
    ),
    OptimizerSpec(
        name="adamw8bit",
        label="AdamW 8-bit",
        family="baseline",
        description="AdamW with a quarter of the optimizer memory; NVIDIA and some other GPUs.",
        options=(*_betas(0.9, 0.999), _weight_decay(0.01), EPS),
        build=baselines.adamw8bit,
        requires="bitsandbytes",
    ),
    OptimizerSpec(
        name="lion",
        label="Lion",
        family="baseline",
        description="Steps by the sign of the momentum; wants a 3 to 10 times smaller lr.",
        options=(*_betas(0.9, 0.99), _weight_decay(0.0)),
        build=baselines.lion,
        requires="lion-pytorch",
        lr_factor=0.2,
    ),
    OptimizerSpec(
        name="adafactor",
        label="Adafactor",
        family="baseline",
        description="Row and column statistics instead of full ones: almost no memory.",
        options=(_weight_decay(0.0),),
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
            _weight_decay(0.01),
            _switch(
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
            *_betas(0.9, 0.999),
            _weight_decay(0.01),
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
        key: _checked(spec, option, options.get(key, option.default))
        for key, option in known.items()
    }


def build_optimizer(
    name: str, params: Iterable[Any], *, lr: float, options: Mapping[str, Any]
) -> Optimizer:
    """Build an optimizer by its registry name.

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
    return spec.build(params, lr=lr, **own)


def step_optimizer(optimizer: Optimizer, loss: Tensor | float | None) -> None:
    """Take one step, handing the loss to the optimizers that read it.

    Args:
        optimizer: Any of the registry.
        loss: Mean loss of the whole step, all micro-batches included. A number costs no read of
            the device; a 0-dim tensor costs Emo one.
    """
    if isinstance(optimizer, ChunkedOptimizer):
        optimizer.step(loss=loss)
    else:
        optimizer.step()


def optimizer_signals(optimizer: Optimizer) -> dict[str, Tensor]:
    """Return the step's scalars of any optimizer, 0-dim; empty for those that have none."""
    return optimizer.signals() if isinstance(optimizer, ChunkedOptimizer) else {}


@contextmanager
def averaged_weights(optimizer: Optimizer) -> Iterator[None]:
    """Hold the weights to sample from or save; schedule-free trains on others than these."""
    switches = getattr(optimizer, "train", None), getattr(optimizer, "eval", None)
    to_training, to_average = switches
    if to_training is None or to_average is None:
        yield
        return
    to_average()
    try:
        yield
    finally:
        to_training()


def _checked(spec: OptimizerSpec, option: Option, value: Any) -> Any:
    where = f"{spec.label}'s {option.name}"
    if option.kind == "choice":
        if value not in option.choices:
            raise ValueError(f"{where} must be one of {', '.join(option.choices)}, got {value!r}")
        return value
    if option.kind == "bool":
        if not isinstance(value, bool):
            raise ValueError(f"{where} must be true or false, got {value!r}")
        return value
    number = int if option.kind == "int" else float
    try:
        value = number(value)
    except (TypeError, ValueError):
        raise ValueError(f"{where} must be a number, got {value!r}") from None
    low = -math.inf if option.minimum is None else option.minimum
    high = math.inf if option.maximum is None else option.maximum
    if not low <= value <= high:
        raise ValueError(f"{where} must be in [{low:g}, {high:g}], got {value:g}")
    return value
