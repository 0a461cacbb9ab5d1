"""The values of a plan: kind, range and meaning of each, written once.

Preset files, the user's overrides and widgets all read ``VALUES``.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, get_args

from ..config import Targets, Timesteps

FAMILIES = ("sdxl", "flux")
"""Model families with presets."""

PURPOSES = ("character", "style", "concept", "photoreal")
"""What a LoRA is for; ``character`` is the identity of one person or figure."""

SCHEDULERS = ("constant", "linear", "cosine", "cosine_with_restarts")
"""Learning-rate schedules after the warm-up."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What one value may be."""

    kind: type
    """``int``, ``float``, ``bool`` or ``str``."""
    least: float = -math.inf
    most: float = math.inf
    choices: tuple[str, ...] = ()
    """Allowed strings."""
    meaning: str

    @property
    def allowed(self) -> str:
        """What the user may give, as it stands in an error."""
        if self.kind is bool:
            return "true or false"
        if self.kind is str:
            return "one of " + ", ".join(self.choices)
        number = "a whole number" if self.kind is int else "a number"
        if math.isinf(self.most):
            return f"{number} of at least {self.least:g}"
        return f"{number} from {self.least:g} to {self.most:g}"

    def accepts(self, value: Any) -> bool:
        """Whether ``value`` is of this kind (whole floats pass as int) and in range."""
        if self.kind is bool:
            return isinstance(value, bool)
        if self.kind is str:
            return isinstance(value, str) and value in self.choices
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        if not math.isfinite(value) or not self.least <= value <= self.most:
            return False
        return self.kind is float or float(value).is_integer()


def _whole(least: int, meaning: str) -> Rule:
    return Rule(kind=int, least=least, meaning=meaning)


VALUES: Mapping[str, Rule] = MappingProxyType(
    {
        "steps": _whole(1, "optimizer steps"),
        "lr": Rule(kind=float, least=1e-9, meaning="learning rate after the warm-up"),
        "rank": _whole(1, "inner dimension of the adapter"),
        "alpha": Rule(kind=float, least=1e-6, meaning="the change is scaled by alpha / rank"),
        "repeats": _whole(1, "times an image is seen an epoch"),
        "epochs": _whole(1, "passes over the image set; steps decide"),
        "scheduler": Rule(kind=str, choices=SCHEDULERS, meaning="learning rate after warm-up"),
        "warmup_steps": _whole(0, "steps over which the learning rate rises"),
        "batch_size": _whole(1, "images a forward pass"),
        "accumulation": _whole(1, "forward passes an optimizer step"),
        "resolution": _whole(16, "side in pixels of the square whose area every bucket keeps"),
        "save_every": _whole(0, "steps between saved states; 0: only at the end"),
        "sample_every": _whole(0, "steps between sample pictures; 0: none"),
        "min_snr_gamma": Rule(kind=float, least=0.0, meaning="min-SNR loss weight; 0: off"),
        "timesteps": Rule(kind=str, choices=get_args(Timesteps), meaning="draw of noise levels"),
        "caption_dropout": Rule(
            kind=float, least=0.0, most=0.99, meaning="share of captions replaced by none"
        ),
        "weight_decay": Rule(kind=float, least=0.0, most=1.0, meaning="pull of weights to zero"),
        "targets": Rule(kind=str, choices=get_args(Targets), meaning="layers that are trained"),
        "train_text_encoders": Rule(kind=bool, meaning="adapters on the text encoders (SDXL)"),
        "flip": Rule(kind=bool, meaning="also train mirrored images"),
    }
)
"""Every value a user may override, in the order in which it is shown."""

DERIVED = frozenset({"epochs", "warmup_steps"})
"""Values that presets do not hold: they follow from the steps."""


def check_value(name: str, value: Any, where: str = "") -> Any:
    """Return ``value`` in the kind that ``name`` has.

    Args:
        name: A key of ``VALUES``.
        value: What the user or a file gave.
        where: Prefix of the error, such as a file name with a colon.

    Raises:
        ValueError: If the value is of another kind or out of range.
    """
    rule = VALUES[name]
    if not rule.accepts(value):
        raise ValueError(f"{where}{name} must be {rule.allowed}, got {value!r}")
    return rule.kind(value)


def check_keys(
    given: Iterable[str], known: Iterable[str], required: Iterable[str], where: str
) -> None:
    """Check the keys of a mapping that came from outside.

    Raises:
        ValueError: If a key is unknown or missing; the message lists the known ones.
    """
    given, known, missing = set(given), set(known), set(required) - set(given)
    for keys, fault in ((given - known, "does not know"), (missing, "lacks")):
        if keys:
            names = ", ".join(sorted(map(str, keys)))
            raise ValueError(f"{where} {fault} {names}; it knows {', '.join(sorted(known))}")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Check one of a few names.

    Raises:
        ValueError: If it is none of them.
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
