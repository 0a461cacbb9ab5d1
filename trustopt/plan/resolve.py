"""The plan meets the optimizer: what an optimizer changes in a plan, and says so."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from .phrases import Phrase
from .train_plan import TrainPlan, num_epochs, steps_per_epoch
from .values import check_choice, check_keys, check_value
from .wording import scientific, shown

SchedulePolicy = Literal["planned", "constant", "constant_only"]
"""``planned``: as the plan says. ``constant``: needs no schedule, bears any.
``constant_only``: its author forbids step-based schedules."""

_POLICIES = ("planned", "constant", "constant_only")


@dataclass(frozen=True, kw_only=True)
class ResolvedPlan:
    """The values of a plan that an optimizer may change, as they will run.

    Raises:
        ValueError: If a value is out of range.
    """

    optimizer: str
    """Name shown to the user."""
    steps: int
    lr: float
    scheduler: str
    warmup_steps: int
    epochs: int
    notes: tuple[str, ...] = ()
    """One sentence for each change, and for each change the user's own value prevented."""

    def __post_init__(self) -> None:
        for name in ("steps", "lr", "scheduler", "warmup_steps", "epochs"):
            check_value(name, getattr(self, name))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that ``from_dict`` and JSON take."""
        return {**asdict(self), "notes": list(self.notes)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ResolvedPlan":
        """Build it from plain values.

        Raises:
            ValueError: If a key is unknown or missing, or a value out of range.
        """
        known = [field.name for field in fields(cls)]
        check_keys(values, known, set(known) - {"notes"}, "a resolved plan")
        return cls(**{**values, "notes": tuple(values.get("notes", ()))})

    def summary(self) -> str:
        """Return what will run with this optimizer, and why it differs from the plan."""
        warmup = f"warm-up {self.warmup_steps}" if self.warmup_steps else "no warm-up"
        title = (
            f"{self.optimizer}: {self.steps} steps, {self.epochs} epochs, "
            f"lr {scientific(self.lr)}, {self.scheduler}, {warmup}"
        )
        return "\n".join([title, *(f"- {note}" for note in self.notes)])


def resolve_for_optimizer(
    plan: TrainPlan,
    *,
    optimizer: str = "the optimizer",
    schedule_policy: SchedulePolicy = "planned",
    lr_factor: float = 1.0,
    steps_factor: float = 1.0,
    suggested_lr: float | None = None,
    lr_range_by_purpose: Mapping[str, tuple[float, float]] | None = None,
    lr: float | None = None,
) -> ResolvedPlan:
    """Let an optimizer adjust a plan, never what the user set.

    Args:
        plan: The plan, with the names of the user's values in ``overridden``.
        optimizer: Name shown in the notes.
        schedule_policy: What the optimizer makes of learning-rate schedules and warm-up.
        lr_factor: Multiplies the planned lr.
        steps_factor: Multiplies the planned steps (unless the user set steps or epochs).
        suggested_lr: Replaces the planned lr where the optimizer's scale is its own (Prodigy's 1).
        lr_range_by_purpose: Bounds of the resulting lr, by purpose; others are not bounded.
        lr: What the user set on the optimizer itself: taken as it is.

    Raises:
        ValueError: If a factor is not above 0, or the policy is unknown.
    """
    check_choice("schedule_policy", schedule_policy, _POLICIES)
    if not (lr_factor > 0.0 and steps_factor > 0.0):
        raise ValueError(
            f"lr_factor and steps_factor must be above 0, got {lr_factor} and {steps_factor}"
        )
    change = _Changes(plan, optimizer)
    steps = change.steps(steps_factor)
    scheduler = change.scheduler(schedule_policy)
    warmup_steps = change.warmup_steps(schedule_policy, steps)
    lr_range = (lr_range_by_purpose or {}).get(plan.purpose)
    if lr is None:
        lr = change.lr(lr_factor, suggested_lr, lr_range)
    elif lr != plan.lr:
        note = Phrase(
            "lr {lr}, set on the optimizer, replaces the plan's {planned}",
            lr=scientific(lr),
            planned=scientific(plan.lr),
        )
        change.notes.append(note)
    per_epoch = steps_per_epoch(plan.num_samples, plan.repeats, plan.batch_size, plan.accumulation)
    return ResolvedPlan(
        optimizer=optimizer,
        steps=steps,
        lr=lr,
        scheduler=scheduler,
        warmup_steps=warmup_steps,
        epochs=num_epochs(steps, per_epoch),
        notes=tuple(change.notes),
    )


class _Changes:
    """What one optimizer changes in one plan, with a note for each change."""

    def __init__(self, plan: TrainPlan, optimizer: str) -> None:
        self.plan = plan
        self.optimizer = optimizer
        self.notes: list[str] = []

    def steps(self, factor: float) -> int:
        wanted = max(1, round(self.plan.steps * factor))
        by_user = not self.plan.overridden.isdisjoint({"steps", "epochs"})
        reason = Phrase(
            "x{factor}, as {optimizer} moves less early on",
            factor=f"{factor:g}",
            optimizer=self.optimizer,
        )
        return self._settle(Phrase("steps"), self.plan.steps, wanted, by_user, reason)

    def scheduler(self, policy: SchedulePolicy) -> str:
        wanted = self.plan.scheduler if policy == "planned" else "constant"
        by_user = "scheduler" in self.plan.overridden
        reason = self._schedule_reason(policy)
        return self._settle(Phrase("scheduler"), self.plan.scheduler, wanted, by_user, reason)

    def warmup_steps(self, policy: SchedulePolicy, steps: int) -> int:
        by_user = "warmup_steps" in self.plan.overridden
        if policy == "planned":  # follows the steps silently, as it does in the plan
            return self.plan.warmup_steps if by_user else round(steps * self.plan.warmup_fraction)
        reason = self._schedule_reason(policy)
        return self._settle(Phrase("warm-up"), self.plan.warmup_steps, 0, by_user, reason)

    def lr(
        self, factor: float, suggested: float | None, lr_range: tuple[float, float] | None
    ) -> float:
        planned = self.plan.lr
        wanted = planned * factor if suggested is None else suggested
        reason: str = f"x{factor:g}"
        if suggested is not None:
            reason = Phrase("where {optimizer} starts", optimizer=self.optimizer)
        if lr_range is not None:
            low, high = lr_range
            wanted = min(max(wanted, low), high)
            reason = Phrase(
                "{reason}, within its author's {low} to {high} for {purpose}",
                reason=reason,
                low=scientific(low),
                high=scientific(high),
                purpose=self.plan.purpose,
            )
        return self._settle(Phrase("lr"), planned, wanted, "lr" in self.plan.overridden, reason)

    def _schedule_reason(self, policy: SchedulePolicy) -> str:
        if policy == "constant_only":
            return Phrase(
                "{optimizer}'s author forbids schedules by step", optimizer=self.optimizer
            )
        return Phrase("{optimizer} regulates itself", optimizer=self.optimizer)

    def _settle(self, name: str, planned: Any, wanted: Any, by_user: bool, reason: str) -> Any:
        """Return the value that runs: the user's own, else the one wanted; note a difference."""
        if wanted == planned:
            return planned
        texts = {
            "name": name,
            "before": shown(name, planned),
            "after": shown(name, wanted),
            "reason": reason,
        }
        if by_user:
            note = Phrase("{name} stays at your {before}; alone it is {after} ({reason})", **texts)
            self.notes.append(note)
            return planned
        self.notes.append(Phrase("{name} {after} instead of {before} ({reason})", **texts))
        return wanted
