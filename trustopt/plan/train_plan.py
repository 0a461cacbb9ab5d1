"""From an image count to a training plan: ``make_plan``."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from .advice import image_set_warnings
from .presets import load_preset
from .values import FAMILIES, PURPOSES, VALUES, check_choice, check_keys, check_value
from .wording import shown


@dataclass(frozen=True, kw_only=True)
class TrainPlan:
    """What a run is going to do, before the optimizer has its say (``resolve_for_optimizer``).

    Raises:
        ValueError: If a value is out of range.
    """

    family: str
    purpose: str
    preset: str
    """Id of the row of the table: ``B``."""
    label: str
    """Name of that row: ``medium``."""
    num_images: int
    """Images in the set, before any repeats."""
    num_samples: int
    """Images an epoch holds at ``repeats=1``: more than num_images where folders repeat theirs."""
    steps: int
    """Optimizer steps; they decide how long a run is."""
    lr: float
    rank: int
    alpha: float
    repeats: int
    epochs: int
    """Passes over the image set, rounded; shown, and decided by the steps."""
    scheduler: str
    warmup_steps: int
    warmup_fraction: float
    """Share of the steps that ``warmup_steps`` follows unless the user set it."""
    batch_size: int
    accumulation: int
    resolution: int
    save_every: int
    sample_every: int
    min_snr_gamma: float
    """0 is off."""
    timesteps: str
    caption_dropout: float
    weight_decay: float
    targets: str
    train_text_encoders: bool
    flip: bool
    trust_level: float
    """AutoTrustGO's trust_level for this purpose: the middle of its author's range."""
    trust_level_range: tuple[float, float]
    overridden: frozenset[str] = frozenset()
    """Names of the values the user set."""
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_choice("family", self.family, FAMILIES)
        check_choice("purpose", self.purpose, PURPOSES)
        for name in VALUES:
            check_value(name, getattr(self, name))
        if self.train_text_encoders and self.family != "sdxl":
            raise ValueError(
                f"train_text_encoders is for SDXL, got a {self.family.upper()} plan: "
                "leave it blank or off"
            )
        if self.warmup_steps > self.steps:
            raise ValueError(
                f"warmup_steps {self.warmup_steps} is longer than the run of {self.steps} steps: "
                "lower it, or leave it blank to follow the steps"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that ``from_dict`` and JSON take."""
        plain = asdict(self)
        plain["overridden"] = sorted(self.overridden)
        plain["warnings"] = list(self.warnings)
        plain["trust_level_range"] = list(self.trust_level_range)
        return plain

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainPlan":
        """Build a plan from plain values.

        Raises:
            ValueError: If a key is unknown or missing, or a value out of range.
        """
        known = [field.name for field in fields(cls)]
        optional = {"overridden", "warnings"}
        check_keys(values, known, set(known) - optional, "a training plan")
        low, high = values["trust_level_range"]
        return cls(
            **{
                **values,
                "trust_level_range": (low, high),
                "overridden": frozenset(values.get("overridden", ())),
                "warnings": tuple(values.get("warnings", ())),
            }
        )

    def summary(self) -> str:
        """Return every value, one a line, those the user set marked with ``*``."""
        title = (
            f"{self.family.upper()} {self.purpose}, preset {self.preset} ({self.label}), "
            f"{self.num_images} images"
        )
        lines = [title]
        for name in VALUES:
            mark = "*" if name in self.overridden else " "
            lines.append(f"{mark} {name:<20} {shown(name, getattr(self, name))}")
        if self.overridden:
            lines.append("* set by you")
        return "\n".join([*lines, *(f"Warning: {warning}" for warning in self.warnings)])


def make_plan(
    num_images: int,
    *,
    family: str,
    purpose: str = "character",
    overrides: Mapping[str, Any] | None = None,
    batch_size: int | None = None,
    accumulation: int | None = None,
    num_samples: int | None = None,
    warnings: Sequence[str] | None = None,
    origin: str = "the image set",
) -> TrainPlan:
    """Choose the preset for an image set and put the user's values in.

    What follows what: warm-up follows the steps, alpha follows the rank, epochs follow the steps;
    each only until the user sets it. Steps decide the length of a run, so ``repeats`` alone
    changes the epochs shown, not the length. ``epochs`` set without ``steps`` gives the steps:
    the user asks for so many passes.

    Args:
        num_images: Images in the set, before any repeats.
        family: One of ``FAMILIES``.
        purpose: One of ``PURPOSES``.
        overrides: The user's values by name (keys of ``VALUES``). None is "auto"; a value equal
            to the preset's is still the user's.
        batch_size: Images a forward pass; the same as in ``overrides``, which wins.
        accumulation: Forward passes an optimizer step; the same as in ``overrides``, which wins.
        num_samples: Images an epoch holds at ``repeats=1``, where folders carry repeats of their
            own; None is ``num_images``.
        warnings: What to tell the user about the image set; None tells what the count alone shows.
        origin: Where the images come from, and what was skipped, for the error about none.

    Raises:
        ValueError: If there are no images, a name is unknown, a value is out of range, or the
            user's steps and epochs disagree.
    """
    if num_images < 1:
        raise ValueError(
            f"no images to train on: {origin} holds {num_images}. "
            "Choose a folder with at least one readable picture (5 or more for a useful LoRA)"
        )
    preset = load_preset(family, purpose)
    row = preset.row_for(num_images)
    chosen = _checked({"batch_size": batch_size, "accumulation": accumulation}) | _checked(
        overrides or {}
    )
    values = {**row.values, **chosen}
    if "rank" in chosen and "alpha" not in chosen:
        values["alpha"] = values["rank"] * row.values["alpha"] / row.values["rank"]
    num_samples = num_images if num_samples is None else num_samples
    per_epoch = steps_per_epoch(
        num_samples, values["repeats"], values["batch_size"], values["accumulation"]
    )
    if "epochs" in chosen:
        values["steps"] = _steps_for(chosen, per_epoch)
    low, high = preset.trust_level_range
    derived = {
        "epochs": num_epochs(values["steps"], per_epoch),
        "warmup_steps": round(values["steps"] * preset.warmup_fraction),
    }
    return TrainPlan(
        family=family,
        purpose=purpose,
        preset=row.preset,
        label=row.label,
        num_images=num_images,
        num_samples=num_samples,
        warmup_fraction=preset.warmup_fraction,
        trust_level=round((low + high) / 2.0, 4),
        trust_level_range=preset.trust_level_range,
        overridden=frozenset(chosen),
        warnings=tuple(
            image_set_warnings(num_images, purpose=purpose) if warnings is None else warnings
        ),
        **{**derived, **values},
    )


def steps_per_epoch(num_samples: int, repeats: int, batch_size: int, accumulation: int) -> int:
    """Return the optimizer steps in which every image is seen ``repeats`` times, rounded up.

    Raises:
        ValueError: If a count is below 1.
    """
    if min(num_samples, repeats, batch_size, accumulation) < 1:
        raise ValueError(
            "an epoch needs counts of at least 1, got "
            f"{num_samples} images, {repeats} repeats, batch {batch_size} x {accumulation}"
        )
    return math.ceil(num_samples * repeats / (batch_size * accumulation))


def num_epochs(steps: int, per_epoch: int) -> int:
    """Return the passes over the image set that ``steps`` make, rounded, at least 1."""
    return max(1, round(steps / per_epoch))


def _checked(overrides: Mapping[str, Any]) -> dict[str, Any]:
    check_keys(overrides, VALUES, (), "a training plan")
    return {
        name: check_value(name, value) for name, value in overrides.items() if value is not None
    }


def _steps_for(chosen: Mapping[str, Any], per_epoch: int) -> int:
    """Return the steps of the epochs the user asks for; both set must agree."""
    epochs, steps = chosen["epochs"], chosen.get("steps")
    if steps is None:
        return epochs * per_epoch
    if num_epochs(steps, per_epoch) != epochs:
        raise ValueError(
            f"steps {steps} and epochs {epochs} disagree: an epoch is {per_epoch} steps here, "
            f"so {epochs} epochs are {epochs * per_epoch} steps. Leave one of the two blank"
        )
    return steps
