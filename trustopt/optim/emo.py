"""What the Emo optimizers share: the loss drives the step; each variant adds its update rule."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import torch
import torch.distributed
from torch import Tensor
from torch.optim.optimizer import ParamsT

from .chunked_optimizer import ChunkedOptimizer
from .chunks import Slot
from .loss_signal import LossMemory, LossSignal, Version

logger = logging.getLogger("trustopt")

SHADOW = {"shadow": Slot("element")}
SHADOW_RATE = 0.05  # muooon/EmoNavi@b1da9a59


@dataclass(frozen=True)
class Step:
    """One group's numbers for one step.

    Attributes:
        size: Step size: lr times the loss signal's factor.
        decay: Factor on the parameters, ``1 - lr * weight_decay``; the loss does not damp it.
        scalar: The loss signal's scalar, in [-1, 1].
    """

    size: float
    decay: float
    beta1: float
    beta2: float
    eps: float
    scalar: float


class EmoOptimizer(ChunkedOptimizer):
    """Base of the Emo family, after muooon's EmoNavi repository (Apache-2.0).

    Feed the loss: ``step(loss=loss)`` or ``step(closure)``. Without one the scalar stays 0 and the
    variant runs as its plain relative (Adam without bias correction, Lion, ...).

    Args:
        params: Parameters or parameter groups; real, dense, of any shape.
        lr: Step size before the loss signal's factor.
        betas: Decay rates of the running averages, in [0, 1); None takes the version's own.
        eps: Added to denominators.
        weight_decay: Decoupled decay; each step multiplies parameters by ``1 - lr * weight_decay``.
        use_shadow: Keep a slow copy of the parameters and mix it in when the loss moves fast.
        version: Whose formulas, of those the variant has.
        stochastic_rounding: Round updates of bfloat16 parameters at random, without bias.

    Attributes:
        loss_signal: The scalar, its averages, and ``should_stop``; see :class:`LossSignal`.
        average_over_ranks: Whether a distributed run's losses are averaged here; a caller that has
            done so itself turns it off.

    Raises:
        ValueError: If a hyperparameter is out of range or the variant lacks the version.
    """

    default_betas: ClassVar[Mapping[Version, tuple[float, float]]] = {"3.0": (0.9, 0.999)}
    early_stop_scalar: ClassVar[bool] = False  # whether v3.6's stop test reads the early scalar

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        use_shadow: bool = False,
        version: Version = "3.0",
        *,
        stochastic_rounding: bool = False,
        **own_defaults: Any,
    ) -> None:
        if version not in self.default_betas:
            raise ValueError(
                f"version must be one of {list(self.default_betas)} for {type(self).__name__}, "
                f"got {version!r}"
            )
        betas = betas or self.default_betas[version]
        check_rates(lr=lr, eps=eps, weight_decay=weight_decay)
        check_betas("betas", betas)
        self.version: Version = version
        self.use_shadow = use_shadow
        self.loss_signal = LossSignal(
            version, early_stop_scalar=self.early_stop_scalar and version == "3.6"
        )
        self.average_over_ranks = True
        self._memories: dict[Tensor, LossMemory] = {}
        self._warned = False
        defaults = {
            "lr": lr,
            "betas": (betas[0], betas[1]),
            "eps": eps,
            "weight_decay": weight_decay,
        }
        super().__init__(
            params, {**defaults, **own_defaults}, stochastic_rounding=stochastic_rounding
        )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, as in torch; its lr of now is what decoupled weight decay divides by."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        group.setdefault("base_lr", group["lr"])

    @property
    def should_stop(self) -> bool:
        """Whether the loss signal was once flat for 32 steps; a hint, which nothing obeys here."""
        return self.loss_signal.should_stop

    def signals(self) -> dict[str, Tensor]:
        """Return the loss signal's numbers, 0-dim float32 on the CPU, where they live.

        ``scalar``, ``drive`` (the factor on the step), ``should_stop`` (0 or 1), ``num_skipped``
        losses, and the averages ``ema_short``, ``ema_medium`` (v3.6), ``ema_long``.
        """
        now, memory = self.loss_signal, self.loss_signal.memory
        numbers: dict[str, float | None] = {
            "scalar": now.scalar,
            "drive": now.drive_of(now.scalar),
            "should_stop": now.should_stop,
            "num_skipped": now.num_skipped,
            "ema_short": memory.short,
            "ema_medium": memory.medium if self.version == "3.6" else None,
            "ema_long": memory.long,
        }
        return {
            name: torch.tensor(float(value)) for name, value in numbers.items() if value is not None
        }

    # -- one step ------------------------------------------------------------------------------

    def _begin_step(self, loss: Any, present: list[Tensor]) -> None:
        value = self._read_loss(loss)
        if self.loss_signal.observe(value) and value is not None and self._remembers_by_parameter():
            self._advance_memories(value, present)

    def _update_group(self, group: dict[str, Any], params: list[Tensor]) -> None:
        for memory, members in self._by_memory(params):
            own_scalar = self.loss_signal.scalar_of(memory) if memory else self.loss_signal.scalar
            if self.use_shadow:
                self._mix_shadow(members, own_scalar)
            scalar = self._step_scalar(own_scalar)
            lr, (beta1, beta2) = group["lr"], group["betas"]
            step = Step(
                size=lr * self.loss_signal.drive_of(scalar),
                decay=1.0 - lr * self._decay_rate(group, scalar),
                beta1=beta1,
                beta2=beta2,
                eps=group["eps"],
                scalar=scalar,
            )
            self._update(group, members, step)

    def _update(self, group: dict[str, Any], params: list[Tensor], step: Step) -> None:
        """The variant's rule, for parameters that share everything in ``step``."""
        raise TypeError(f"{type(self).__name__} has no update rule")

    def _step_scalar(self, own_scalar: float) -> float:
        """The scalar that drives the step of parameters whose own is given."""
        return own_scalar

    def _decay_rate(self, group: dict[str, Any], scalar: float) -> float:
        return group["weight_decay"]

    # -- the loss ------------------------------------------------------------------------------

    def _read_loss(self, loss: Any) -> float | None:
        """The step's loss as a number, equal on all ranks; the only read of a device tensor."""
        if loss is None:
            if not self._warned:
                logger.warning(
                    "%s.step() got no loss: its scalar stays %.3g, so it does not react to the "
                    "training. Pass step(loss=loss).",
                    type(self).__name__,
                    self.loss_signal.scalar,
                )
                self._warned = True
            return None
        if isinstance(loss, Tensor) and loss.numel() != 1:
            raise ValueError(
                f"loss must be one number, got shape {tuple(loss.shape)}; "
                "pass the mean over the whole step"
            )
        value = float(loss)
        return self._mean_over_ranks(value) if self.average_over_ranks else value

    def _mean_over_ranks(self, loss: float) -> float:
        """Average over the ranks of a distributed run, which would drift apart otherwise."""
        dist = torch.distributed
        if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return loss
        device = self._all_params()[0].device
        total = torch.tensor(loss, dtype=torch.float64, device=device)
        dist.all_reduce(total)
        return float(total) / dist.get_world_size()

    # -- one memory for each parameter, shared while their histories agree ----------------------

    def _remembers_by_parameter(self) -> bool:
        """v3.0 averages the loss over the steps in which a parameter had a gradient."""
        return self.version == "3.0"

    def _advance_memories(self, loss: float, present: list[Tensor]) -> None:
        unborn = LossMemory()
        for p in self._all_params():
            self._memories.setdefault(p, unborn)
        owners: dict[int, int] = {}
        for memory in self._memories.values():
            owners[id(memory)] = owners.get(id(memory), 0) + 1
        for memory, members in self._by_memory(present):
            assert memory is not None
            if len(members) < owners[id(memory)]:
                memory = replace(memory)
                self._memories.update(dict.fromkeys(members, memory))
            memory.observe(loss)

    def _by_memory(self, params: list[Tensor]) -> list[tuple[LossMemory | None, list[Tensor]]]:
        """``params`` grouped by the memory they share; None is the signal's own."""
        if not self._memories:
            return [(None, params)]
        found: dict[int, tuple[LossMemory, list[Tensor]]] = {}
        for p in params:
            memory = self._memories[p]
            found.setdefault(id(memory), (memory, []))[1].append(p)
        return list(found.values())

    # -- shadow --------------------------------------------------------------------------------

    def _mix_shadow(self, params: list[Tensor], scalar: float) -> None:
        """Pull the parameters to their slow copy while the loss moves, by the version's rule."""
        size = abs(scalar)
        if self.version == "3.0" and size <= 0.1:
            return
        old = [p for p in params if "shadow" in self.state[p]]
        for p in params:
            if "shadow" not in self.state[p]:
                self.state[p]["shadow"] = p.clone()
        shadows = [self.state[p]["shadow"] for p in old]
        if not old:
            return
        if self.version == "3.0":
            torch._foreach_lerp_(old, shadows, size)
            torch._foreach_lerp_(shadows, old, SHADOW_RATE)
        elif 0.625 < size < 1.0:
            torch._foreach_lerp_(old, shadows, 1.0 - size)
        else:
            torch._foreach_lerp_(shadows, old, 0.1 * (1.0 - size))

    # -- resume --------------------------------------------------------------------------------

    def _own_state(self) -> dict[str, Any]:
        index = {p: i for i, p in enumerate(self._all_params())}
        memories = [
            {"params": [index[p] for p in members], **asdict(memory)}
            for memory, members in self._by_memory(list(self._memories))
            if memory is not None
        ]
        return {
            **super()._own_state(),
            "version": self.version,
            "use_shadow": self.use_shadow,
            "loss_signal": self.loss_signal.state_dict(),
            "memories": memories,
        }

    def _check_own_state(self, own: Mapping[str, Any]) -> None:
        saved = own.get("version", self.version)
        if saved != self.version:
            raise ValueError(
                f"this state is of version {saved!r}, the optimizer of {self.version!r}; "
                f"resume with version={saved!r} or start anew"
            )

    def _load_own_state(self, own: Mapping[str, Any], saved: Mapping[Tensor, Any]) -> None:
        super()._load_own_state(own, saved)
        params = self._all_params()
        self._memories = {}
        if own:
            self.loss_signal.load_state_dict(own["loss_signal"])
            for entry in own["memories"]:
                numbers = {k: v for k, v in entry.items() if k != "params"}
                self._memories.update(
                    dict.fromkeys((params[i] for i in entry["params"]), LossMemory(**numbers))
                )
            return
        self._load_published(saved)

    def _load_published(self, saved: Mapping[Tensor, Any]) -> None:
        """Take the loss averages from a published v3.0 state, which keeps a pair a parameter."""
        pairs: dict[tuple[float, float], LossMemory] = {}
        for p, values in saved.items():
            ema = values.get("ema")
            if ema:
                key = (float(ema["short"]), float(ema["long"]))
                memory = LossMemory(short=key[0], medium=key[0], long=key[1])
                self._memories[p] = pairs.setdefault(key, memory)
        if pairs:
            self.loss_signal.memory = replace(next(iter(pairs.values())))
            self.loss_signal.scalar = self.loss_signal.scalar_of(self.loss_signal.memory)


def check_rates(**rates: float) -> None:
    """Raise ValueError for a negative rate; the argument names are the user's."""
    for name, value in rates.items():
        if not value >= 0.0:
            raise ValueError(f"{name} must be >= 0, got {value}")


def check_betas(name: str, betas: Sequence[float]) -> None:
    """Raise ValueError unless ``betas`` are two numbers in [0, 1)."""
    if len(betas) != 2 or not all(0.0 <= beta < 1.0 for beta in betas):
        raise ValueError(f"{name} must be two numbers in [0, 1), got {tuple(betas)}")
