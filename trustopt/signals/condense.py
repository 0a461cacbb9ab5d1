"""Long series made short before they are drawn, so that a picture costs the same at any length."""

import math

import numpy as np

from .smoothing import ema

MAX_BLOCKS = 12_000
"""Twice the subcolumns of a 1500-pixel plot: what a block hides is smaller than a pixel."""


def block_size(num_values: int) -> int:
    """Return how many values to take together; 1 for a series that is short enough."""
    return -(-num_values // MAX_BLOCKS) if num_values > 2 * MAX_BLOCKS else 1


def block_extremes(x: np.ndarray, y: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Replace every ``block`` values by their lowest and highest: no spike is lost.

    Args:
        x: Positions, ascending, ``(N,)``.
        y: Values, ``(N,)``; non-finite ones are left out, a block of nothing else is NaN.
        block: Values a block; the last may be shorter.

    Returns:
        ``(x, y)``: two points a block, at its first and last position.
    """
    if block == 1:
        return x, y
    blocks = _blocks(y, block)
    firsts = np.arange(0, len(y), block)
    lasts = np.minimum(firsts + block, len(y)) - 1
    positions = np.stack([x[firsts], x[lasts]], axis=1).reshape(-1)
    # fmin and fmax leave NaN out; infinities are made NaN by _blocks.
    extremes = np.stack([np.fmin.reduce(blocks, axis=1), np.fmax.reduce(blocks, axis=1)], axis=1)
    return positions, extremes.reshape(-1)


def block_means(x: np.ndarray, y: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Replace every ``block`` values by the mean of the finite ones (NaN without any).

    Returns:
        ``(x, y)``: one point a block, at its last position.
    """
    if block == 1:
        return x, y
    blocks = _blocks(y, block)
    present = ~np.isnan(blocks)
    count = np.count_nonzero(present, axis=1)
    # Divided before they are added: values near the float64 limit must not overflow.
    total = np.add.reduce(blocks / block, axis=1, where=present)
    means = np.full(len(blocks), math.nan)
    np.divide(total, count / block, out=means, where=count > 0)
    lasts = np.minimum(np.arange(block, len(y) + block, block), len(y)) - 1
    return x[lasts], means


def _blocks(y: np.ndarray, block: int) -> np.ndarray:
    """Return the values ``(ceil(N / block), block)``, NaN where not finite or beyond the end."""
    padded = np.full(-(-len(y) // block) * block, math.nan)
    padded[: len(y)] = np.where(np.isfinite(y), y, math.nan)
    return padded.reshape(-1, block)


def moving_average(x: np.ndarray, y: np.ndarray, beta: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the points of the bias-corrected moving average that a picture needs.

    Exact for a series of normal length. A long one is averaged over block means where the average
    forgets so slowly that a block is a small part of its memory; else its extremes are kept.
    """
    block = block_size(len(y))
    if block == 1:
        return x, ema(y, beta)
    if 1.0 / (1.0 - beta) < 8 * block:
        return block_extremes(x, ema(y, beta), block)
    positions, means = block_means(x, y, block)
    return positions, ema(means, beta**block)
