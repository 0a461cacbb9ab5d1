"""Figures of a run while it goes: smoothed loss, pace, time left."""

import statistics
from collections import deque

from ..plan.wording import duration, scientific
from ..train.loop import StepReport

MEMORY = 0.95
"""Share of the past in the smoothed loss: about the last 20 steps."""

RECENT = 21
"""Steps whose median is the pace: the first ones, slow with warming up, are soon forgotten."""


class Meter:
    """Follows the reports of a run.

    Args:
        steps: Steps of the whole run.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.step = 0
        self.lr = 0.0
        self._sum, self._weight = 0.0, 0.0
        self._seconds: deque[float] = deque(maxlen=RECENT)

    def update(self, report: StepReport) -> None:
        """Take one step in."""
        self.step, self.lr = report.step, report.lr
        self._seconds.append(report.seconds)
        if not report.skipped:  # a loss that is not finite would stay in the average for good
            self._sum = MEMORY * self._sum + (1.0 - MEMORY) * report.loss
            self._weight = MEMORY * self._weight + (1.0 - MEMORY)

    @property
    def loss(self) -> float:
        """Bias-corrected moving average of the loss; NaN before the first finite one."""
        return self._sum / self._weight if self._weight else float("nan")

    @property
    def seconds_per_step(self) -> float:
        """Median of recent steps."""
        return statistics.median(self._seconds) if self._seconds else float("nan")

    def text(self) -> str:
        """Return ``loss 0.412  lr 1e-4  0.35 s/step  ETA 1 min 2 s``."""
        pace = self.seconds_per_step
        return (
            f"loss {self.loss:.3f}  lr {scientific(self.lr)}  {pace:.3g} s/step  "
            f"ETA {duration(pace * (self.steps - self.step))}"
        )
