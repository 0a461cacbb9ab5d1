"""What the loss says: the scalar that drives every Emo optimizer, and a fairer loss to feed it.

Upstream's words and ours: *emotion* is the ``scalar``, *emotional moment* and *emoDrive* are the
``drive`` (the factor on the step), *emaDict/moment history* is ``LossMemory``.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Version = Literal["3.0", "3.6"]
VERSIONS: tuple[Version, ...] = ("3.0", "3.6")

SHORT_RATE, MEDIUM_RATE, LONG_RATE = 0.3, 0.05, 0.01  # muooon/EmoNavi@b1767a99
STOP_WINDOW = 32  # steps the stop test looks back on
STOP_MEAN, STOP_VARIANCE = 0.05, 0.005
SMALLEST_LOSS = 1e-5  # v3.6 divides by no average below this


@dataclass
class LossMemory:
    """Running averages of the loss at three speeds, in the loss's own unit; None before any."""

    short: float | None = None
    medium: float | None = None
    long: float | None = None

    def observe(self, loss: float) -> None:
        """Advance the averages; the first loss becomes all three."""
        if self.short is None or self.medium is None or self.long is None:
            self.short = self.medium = self.long = loss
        self.short = SHORT_RATE * loss + (1 - SHORT_RATE) * self.short
        self.medium = MEDIUM_RATE * loss + (1 - MEDIUM_RATE) * self.medium
        self.long = LONG_RATE * loss + (1 - LONG_RATE) * self.long


def absolute_scalar(memory: LossMemory) -> float:
    """v3.0's scalar, ``tanh(5 (short - long))`` in [-1, 1]: positive while the loss rises.

    The difference is absolute, so it depends on the loss's scale: at a diffusion loss near 0.1
    its size is usually 0.05 to 0.3.

    Source: muooon/EmoNavi@b1da9a59:AMP-compatible/emonavi.py.
    """
    if memory.short is None or memory.long is None:
        return 0.0
    return math.tanh(5 * (memory.short - memory.long))


def early_scalar(memory: LossMemory) -> float:
    """v3.6's ``tanh((long - short) / long)``: relative, positive while the loss falls."""
    if memory.short is None or memory.long is None:
        return 0.0
    return math.tanh((memory.long - memory.short) / max(memory.long, SMALLEST_LOSS))


def relative_scalar(memory: LossMemory) -> float:
    """v3.6's scalar: like :func:`early_scalar`, over the medium average in some steps.

    Both sides of the comparison are equal on paper unless an average is below 1e-5, so float64
    rounding takes the choice; the order of operations is upstream's for that reason.

    Source: muooon/EmoNavi@b1767a99:optimizer/emonavi.py.
    """
    if memory.short is None or memory.medium is None or memory.long is None:
        return 0.0
    fall = memory.long - memory.short
    medium, long = max(memory.medium, SMALLEST_LOSS), max(memory.long, SMALLEST_LOSS)
    by_medium, by_long = fall / medium, fall / long
    if abs(by_long) < 0.05:
        return math.tanh(by_long)
    if abs(by_medium) * medium < abs(by_long) * long:
        return math.tanh(by_medium)
    return math.tanh(by_long)


def damping(scalar: float) -> float:
    """v3.0's factor on the step, ``1 - |scalar|``: any fast change of the loss brakes."""
    return 1.0 - abs(scalar)


def drive(scalar: float) -> float:
    """v3.6's factor on the step: 1 when calm, about 4 to 6 when the loss moves, a brake beyond."""
    size = abs(scalar)
    if 0.25 < size < 0.5:
        trust = math.copysign(1.0 - size, scalar)
        return 8.0 * abs(trust) * (1.0 + 0.1 * trust)
    return 1.0 - size if size > 0.75 else 1.0


class LossSignal:
    """Turns the losses of a run into a scalar, a factor on the step and a hint to stop.

    Args:
        version: Whose formulas: ``"3.0"`` or ``"3.6"``.
        early_stop_scalar: Whether the stop test reads :func:`early_scalar` (v3.6 navi does).

    Attributes:
        memory: The averages, advanced by every finite loss.
        scalar: This step's scalar, in [-1, 1]; 0 before the first loss.
        should_stop: Whether the last 32 scalars were once all but flat around 0; never unset.
        num_skipped: Losses ignored because they were not finite.
    """

    def __init__(self, version: Version = "3.0", *, early_stop_scalar: bool = False) -> None:
        self.version = version
        self.early_stop_scalar = early_stop_scalar
        self.memory = LossMemory()
        self.history: list[float] = []
        self.scalar = 0.0
        self.should_stop = False
        self.num_skipped = 0

    def observe(self, loss: float | None) -> bool:
        """Take in one step's loss.

        Args:
            loss: Mean loss of the whole step; None leaves the scalar as it is.

        Returns:
            Whether the averages advanced: not without a loss, nor with one that is not finite.
        """
        if loss is not None and not math.isfinite(loss):
            self.num_skipped += 1
            return False
        if loss is not None:
            self.memory.observe(loss)
            self.scalar = self.scalar_of(self.memory)
        early = self.early_stop_scalar and loss is not None
        self._judge(early_scalar(self.memory) if early else self.scalar)
        return loss is not None

    def scalar_of(self, memory: LossMemory) -> float:
        """Return the scalar of any memory, by this version's formula."""
        return absolute_scalar(memory) if self.version == "3.0" else relative_scalar(memory)

    def drive_of(self, scalar: float) -> float:
        """Return the factor on the step for a scalar, by this version's formula."""
        return damping(scalar) if self.version == "3.0" else drive(scalar)

    def state_dict(self) -> dict[str, Any]:
        """Return everything a resumed run needs, as plain numbers and lists."""
        return {
            "memory": asdict(self.memory),
            "history": list(self.history),
            "scalar": self.scalar,
            "should_stop": self.should_stop,
            "num_skipped": self.num_skipped,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`state_dict`'s numbers."""
        self.memory = LossMemory(**state["memory"])
        self.history = [float(scalar) for scalar in state["history"]]
        self.scalar = float(state["scalar"])
        self.should_stop = bool(state["should_stop"])
        self.num_skipped = int(state["num_skipped"])

    def _judge(self, scalar: float) -> None:
        """Add one step to the window; raise ``should_stop`` when the whole window is flat."""
        self.history = [*self.history, scalar][-STOP_WINDOW:]
        if len(self.history) < STOP_WINDOW:
            return
        size = sum(abs(s) for s in self.history) / STOP_WINDOW
        mean = sum(self.history) / STOP_WINDOW
        variance = sum((s - mean) ** 2 for s in self.history) / STOP_WINDOW
        if size < STOP_MEAN and variance < STOP_VARIANCE:
            self.should_stop = True
