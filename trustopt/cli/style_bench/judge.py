"""How far drawn pictures are from the true ones: in colour, and in their edges."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
"""Weights of red, green and blue (ITU-R BT.709)."""


@dataclass(frozen=True)
class Verdict:
    """Means over pictures.

    Attributes:
        rmse: Root mean square difference of pixels in [0, 1].
        edge_distance: Mean absolute difference of edge strengths, over the truth's mean: 0 is
            equal, 1 is as far as a picture without edges.
        edge_energy: Mean edge strength over the truth's: below 1 is flattened, above is noisy.
    """

    rmse: float
    edge_distance: float
    edge_energy: float


def judge(drawn: Sequence[NDArray[np.uint8]], truth: Sequence[NDArray[np.uint8]]) -> Verdict:
    """Compare pictures ``(H, W, 3)`` one by one.

    Raises:
        ValueError: If there are not as many of one as of the other.
    """
    pairs = [(p / 255.0, t / 255.0) for p, t in zip(drawn, truth, strict=True)]
    edges_of = [(edges(p), edges(t)) for p, t in pairs]
    return Verdict(
        rmse=float(np.mean([np.sqrt(np.mean((p - t) ** 2)) for p, t in pairs])),
        edge_distance=float(np.mean([np.abs(p - t).mean() / t.mean() for p, t in edges_of])),
        edge_energy=float(np.mean([p.mean() / t.mean() for p, t in edges_of])),
    )


def edges(picture: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the strength of the luminance's gradient, ``(H, W)``, by central differences."""
    down, across = np.gradient(picture @ LUMINANCE)
    return np.hypot(down, across)
