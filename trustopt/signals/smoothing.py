"""Smoothing of noisy series: the bias-corrected exponential moving average."""

import math

import numpy as np

STRONG = 40
"""For losses and norms: forget over 1/40 of the run, 25 pixels of a 1000-pixel plot."""

GENTLE = 200
"""For an optimizer's own signals, whose swings are meant: 5 pixels of a 1000-pixel plot."""


def ema(values: np.ndarray, beta: float) -> np.ndarray:
    r"""Average each value with its past, recent values weighing most.

    .. math::
        m_t = \beta m_{t-1} + (1 - \beta) x_t, \qquad \hat m_t = m_t / (1 - \beta^t), \quad m_0 = 0

    The correction makes the first average equal the first value. A non-finite value has no average
    (NaN there) and does not disturb those after it; ``t`` counts finite values.

    Args:
        values: ``(N,)``, any real dtype.
        beta: Share of the past in [0, 1); 0 returns the values.

    Returns:
        float64 ``(N,)``.

    Raises:
        ValueError: If ``beta`` is outside [0, 1).

    Source:
        Kingma and Ba 2015, "Adam", section 3 (initialisation bias correction).
    """
    if not 0.0 <= beta < 1.0:
        raise ValueError(f"smoothing must be at least 0 and below 1, got {beta}")
    values = np.asarray(values, np.float64)
    averages = np.full(values.shape, math.nan)
    finite = np.isfinite(values)
    present = values[finite]
    if beta == 0.0 or len(present) == 0:
        averages[finite] = present
        return averages
    # 1 - beta**t, written so that it stays exact when beta is close to 1.
    correction = -np.expm1(np.arange(1, len(present) + 1) * math.log(beta))
    # A power of two scales exactly; the recursion needs headroom above the largest value.
    shrink = 2.0**-64 if np.abs(present).max() > 1e280 else 1.0
    averages[finite] = _recursion(present * shrink, beta) / correction / shrink
    return averages


def _recursion(values: np.ndarray, beta: float) -> np.ndarray:
    """Return ``m_t`` for every t without a Python loop over the values.

    Inside a block of length L, ``m_t = beta^t (m_0 + (1 - beta) sum_j x_j beta^-j)`` is a
    cumulative sum; L is bounded so that ``beta^-L`` keeps float64's precision. Block ends chain.
    """
    length = max(1, min(len(values), int(math.log(1e-8) / math.log(beta))))
    num_blocks = -(-len(values) // length)
    blocks = np.zeros(num_blocks * length)
    blocks[: len(values)] = values
    blocks = blocks.reshape(num_blocks, length)
    powers = beta ** np.arange(1, length + 1)
    averages = np.cumsum(blocks * ((1.0 - beta) / powers), axis=1) * powers
    carried = 0.0
    for block in averages:
        block += carried * powers
        carried = block[-1]
    return averages.reshape(-1)[: len(values)]


def auto_beta(num_values: int, divisions: int = STRONG) -> float:
    """Return the ``beta`` whose average forgets over one of ``divisions`` parts of the run.

    Args:
        num_values: Length of the run.
        divisions: ``STRONG`` or ``GENTLE``.
    """
    # At least the last 2 or 4 values: less would be no average.
    time_constant = max(4.0 if divisions <= STRONG else 2.0, num_values / divisions)
    return 1.0 - 1.0 / time_constant


def is_noisy(values: np.ndarray, threshold: float = 0.05) -> bool:
    """Tell jitter from a curve: by the median step, so that a few jumps are no jitter.

    The median absolute difference of neighbours is 0.95 standard deviations for white noise and
    falls towards 0 for a smooth or piecewise constant series.

    Args:
        values: ``(N,)``; non-finite entries are left out.
        threshold: Median step over standard deviation from which a series counts as noisy.
    """
    present = values[np.isfinite(values)]
    if len(present) < 3:
        return False
    scale = np.abs(present).max()
    if scale == 0.0:
        return False
    present = present / scale
    spread = present.std()
    # Rounding alone gives a constant series a deviation of about 1e-16.
    if spread < 1e-12:
        return False
    return bool(np.median(np.abs(np.diff(present))) > threshold * spread)
