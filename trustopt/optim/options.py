"""Options of optimizers: what a user may set, within which bounds, and with what advice."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from .loss_signal import VERSIONS

Kind = Literal["float", "int", "bool", "choice"]


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


def check_value(option: Option, value: Any, owner: str) -> Any:
    """Return a user's value in the option's own type.

    Raises:
        ValueError: If it is of another kind or out of range; ``owner`` is who has the option.
    """
    where = f"{owner}'s {option.name}"
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


def rate(name: str, default: float, tooltip: str, maximum: float = 0.99999) -> Option:
    """Make an option that is a decay rate in [0, 1)."""
    return Option(name, "float", default, 0.0, maximum, 0.001, tooltip=tooltip)


def switch(name: str, default: bool, tooltip: str) -> Option:
    """Make an option that is on or off."""
    return Option(name, "bool", default, tooltip=tooltip)


def choice(
    name: str, choices: tuple[str, ...], tooltip: str, *, for_trainer: bool = False
) -> Option:
    """Make an option out of choices, the first being the default."""
    return Option(
        name, "choice", choices[0], choices=choices, tooltip=tooltip, for_trainer=for_trainer
    )


def betas(beta1: float, beta2: float) -> tuple[Option, Option]:
    """Make the two decay rates of an Adam-like optimizer."""
    return (
        rate(
            "beta1",
            beta1,
            f"Memory of the gradient's mean; {beta1} remembers about "
            f"{round(1 / (1 - beta1))} steps.",
        ),
        rate(
            "beta2",
            beta2,
            f"Memory of the gradient's size; {beta2} remembers about "
            f"{round(1 / (1 - beta2))} steps.",
        ),
    )


def weight_decay(default: float) -> Option:
    """Make the decoupled weight decay."""
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
STOCHASTIC_ROUNDING = switch(
    "stochastic_rounding",
    False,
    "Only for bfloat16 adapters: rounds at random so that small updates are not lost.",
)
ON_SHOULD_STOP = choice(
    "on_should_stop",
    ("ignore", "stop", "save and go on"),
    "What to do when the loss signal stayed flat for 32 steps. It is a hint, not a verdict: "
    "start with ignore.",
    for_trainer=True,
)
LOSS_SIGNAL = choice(
    "loss_signal",
    ("timestep-normalised", "raw"),
    "Which loss the optimizer hears. Timestep-normalised divides out how hard each noise level is, "
    "so that it hears the training and not the dice.",
    for_trainer=True,
)
USE_SHADOW = switch(
    "use_shadow",
    False,
    "Keeps a slow copy of the adapter and mixes it in while the loss moves fast. Costs 4 bytes a "
    "parameter.",
)
VERSION = choice(
    "version",
    VERSIONS,
    "3.0 brakes on any fast change of the loss. 3.6 compares it with the loss's own size and "
    "speeds up on moderate changes.",
)
DECOUPLED = switch(
    "decoupled_weight_decay", False, "Makes weight decay independent of the learning rate."
)
