"""The loss with the dice taken out: what it would be if every noise level were drawn evenly.

A diffusion loss depends far more on the noise level drawn than on the training. Divided by what is
usual at its level, it shows the training.
"""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

NUM_KNOTS = 17
RATE = 0.05  # of a knot's average, for each sample that falls right on it
VISIT_RATE = 0.005  # of the averages of how often a knot is drawn
PRIOR = 0.1  # weight of the overall mean in a knot's average, against 1 for what it has seen
SMALLEST = 1e-12  # a loss below this, or negative, counts as this in the expectation


class LevelNormaliser:
    """Divides each sample's loss by the running expectation for its noise level.

    The expectation is of the loss's logarithm, because losses differ by factors: piecewise linear
    over 17 evenly spaced knots; a sample teaches the two next to it. The result is brought back to
    the loss's own unit by the usual loss's mean over the levels as they are drawn, so that it falls
    as the loss falls.

    Until a knot has been visited it expects the overall mean: the first results are raw losses.
    """

    def __init__(self) -> None:
        self.sums = [0.0] * NUM_KNOTS
        self.weights = [0.0] * NUM_KNOTS
        self.visits = [0.0] * NUM_KNOTS

    def __call__(self, losses: Tensor, levels: Tensor) -> float:
        """Normalise one step's losses, then learn from them.

        Args:
            losses: Each sample's loss ``(B,)``, all micro-batches of the step together.
            levels: Each sample's noise level ``(B,)`` in [0, 1]: its place among the model's
                levels, 0 clean and 1 pure noise. Any monotone measure does.

        Returns:
            The normalised mean loss; the plain mean if any loss is not finite, which teaches
            nothing.

        Raises:
            ValueError: If the shapes differ, or a level is outside [0, 1].
        """
        if losses.shape != levels.shape or losses.dim() != 1:
            raise ValueError(
                f"losses {tuple(losses.shape)} and levels {tuple(levels.shape)} must both be (B,)"
            )
        values, places = losses.tolist(), levels.tolist()
        if not all(0.0 <= place <= 1.0 for place in places):
            raise ValueError(f"levels must be in [0, 1], got {min(places):g} to {max(places):g}")
        mean = sum(values) / len(values)
        if not math.isfinite(mean):
            return mean
        usual = self._expectation()
        samples = list(zip(values, map(_knots_around, places), strict=True))
        if usual is not None:
            ratios = [value / math.exp(_interpolate(usual, around)) for value, around in samples]
            mean = self._typical(usual) * sum(ratios) / len(ratios)
        for value, around in samples:
            self._learn(value, around)
        return mean

    def state_dict(self) -> dict[str, Any]:
        """Return everything as lists of numbers."""
        return {
            "sums": list(self.sums),
            "weights": list(self.weights),
            "visits": list(self.visits),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`state_dict`'s numbers."""
        self.sums = [float(x) for x in state["sums"]]
        self.weights = [float(x) for x in state["weights"]]
        self.visits = [float(x) for x in state["visits"]]

    def _expectation(self) -> list[float] | None:
        """Logarithm of the usual loss at each knot; None before anything was seen."""
        seen = sum(self.weights)
        if not seen:
            return None
        overall = sum(self.sums) / seen
        return [
            (s + PRIOR * overall) / (w + PRIOR)
            for s, w in zip(self.sums, self.weights, strict=True)
        ]

    def _typical(self, usual: list[float]) -> float:
        """Mean of the usual loss over the levels as they have been drawn."""
        masses = zip(usual, self.visits, strict=True)
        return sum(math.exp(u) * visit for u, visit in masses) / sum(self.visits)

    def _learn(self, value: float, around: list[tuple[int, float]]) -> None:
        self.visits = [(1.0 - VISIT_RATE) * visit for visit in self.visits]
        for knot, share in around:
            rate = RATE * share
            self.sums[knot] += rate * (math.log(max(value, SMALLEST)) - self.sums[knot])
            self.weights[knot] += rate * (1.0 - self.weights[knot])
            self.visits[knot] += VISIT_RATE * share


def _knots_around(level: float) -> list[tuple[int, float]]:
    """The two knots next to a level and how near it is to each, the shares adding to 1."""
    place = level * (NUM_KNOTS - 1)
    lower = min(int(place), NUM_KNOTS - 2)
    return [(lower, 1.0 - (place - lower)), (lower + 1, place - lower)]


def _interpolate(values: list[float], around: list[tuple[int, float]]) -> float:
    return sum(share * values[knot] for knot, share in around)
