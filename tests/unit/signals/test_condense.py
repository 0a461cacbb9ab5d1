import math

import numpy as np

from trustopt.signals.condense import (
    MAX_BLOCKS,
    block_extremes,
    block_means,
    block_size,
    moving_average,
)
from trustopt.signals.smoothing import ema


def test_extremes_by_hand() -> None:
    x = np.arange(1, 8)
    y = np.array([3.0, 1.0, 2.0, math.nan, 5.0, math.inf, -1.0])

    positions, values = block_extremes(x, y, 3)

    assert positions.tolist() == [1, 3, 4, 6, 7, 7]
    assert values.tolist() == [1.0, 3.0, 5.0, 5.0, -1.0, -1.0]


def test_means_by_hand() -> None:
    x = np.arange(1, 9)
    y = np.array([3.0, 1.0, 2.0, math.nan, 5.0, math.inf, math.nan, math.nan])

    positions, values = block_means(x, y, 3)

    assert positions.tolist() == [3, 6, 8]
    np.testing.assert_allclose(values, [2.0, 5.0, math.nan])


def test_short_series_are_left_alone() -> None:
    x, y = np.arange(2 * MAX_BLOCKS), np.ones(2 * MAX_BLOCKS)

    assert block_size(len(x)) == 1
    assert block_extremes(x, y, 1)[1] is y
    np.testing.assert_array_equal(moving_average(x, y, 0.9)[1], ema(y, 0.9))


def test_long_series_become_short() -> None:
    for length in (30_000, 1_000_000, 1_234_567):
        assert block_size(length) >= 2
        assert length / block_size(length) <= MAX_BLOCKS


def test_a_slow_average_of_a_long_series_is_close_to_the_exact_one() -> None:
    steps = np.arange(1, 200_001)
    loss = np.exp(-steps / 50_000) + 0.3 * np.random.default_rng(0).standard_normal(len(steps))

    positions, averages = moving_average(steps, loss, 0.9998)

    exact = ema(loss, 0.9998)[positions - 1]
    settled = positions > 5000
    np.testing.assert_allclose(averages[settled], exact[settled], atol=2e-3)


def test_a_fast_average_of_a_long_series_keeps_its_extremes() -> None:
    steps = np.arange(1, 200_001)
    loss = np.random.default_rng(0).standard_normal(len(steps))

    _, averages = moving_average(steps, loss, 0.5)

    exact = ema(loss, 0.5)
    assert np.nanmax(averages) == exact.max()
    assert np.nanmin(averages) == exact.min()
