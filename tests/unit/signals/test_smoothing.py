import math

import numpy as np
import pytest

from trustopt.signals.smoothing import GENTLE, STRONG, auto_beta, ema, is_noisy


def test_ema_by_hand() -> None:
    # m: 0.5, 1.25, 2.625 (beta 0.5); corrections 0.5, 0.75, 0.875.
    averages = ema(np.array([1.0, 2.0, 4.0]), 0.5)

    np.testing.assert_allclose(averages, [1.0, 1.25 / 0.75, 2.625 / 0.875], rtol=1e-15)


def test_ema_of_a_constant_is_that_constant_from_the_first_value_on() -> None:
    np.testing.assert_allclose(ema(np.full(1000, 0.3), 0.99), 0.3, rtol=1e-12)


def test_ema_skips_what_is_not_finite() -> None:
    averages = ema(np.array([1.0, math.nan, 2.0, math.inf, 4.0]), 0.5)

    assert np.isnan(averages[[1, 3]]).all()
    np.testing.assert_allclose(averages[[0, 2, 4]], [1.0, 1.25 / 0.75, 2.625 / 0.875], rtol=1e-15)


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.9, 0.999, 0.999999])
def test_ema_equals_the_plain_recursion(beta: float) -> None:
    values = np.random.default_rng(0).standard_normal(5000)
    average, expected = 0.0, []
    for count, value in enumerate(values, start=1):
        average = beta * average + (1.0 - beta) * value
        expected.append(average / (1.0 - beta**count))

    np.testing.assert_allclose(ema(values, beta), expected, rtol=1e-7, atol=1e-9)


def test_ema_of_values_near_the_float_limit_stays_finite() -> None:
    with np.errstate(over="raise"):
        assert np.isfinite(ema(np.full(500, 1.7e308), 0.9)).all()


def test_ema_of_nothing() -> None:
    assert len(ema(np.empty(0), 0.9)) == 0
    assert np.isnan(ema(np.array([math.nan]), 0.9)).all()


@pytest.mark.parametrize("beta", [-0.1, 1.0, math.nan])
def test_ema_rejects_other_shares(beta: float) -> None:
    with pytest.raises(ValueError, match="smoothing must be"):
        ema(np.ones(3), beta)


def test_auto_beta_forgets_over_a_share_of_the_run() -> None:
    assert auto_beta(4000, STRONG) == pytest.approx(1.0 - 1.0 / 100.0)
    assert auto_beta(4000, GENTLE) == pytest.approx(1.0 - 1.0 / 20.0)
    assert auto_beta(3) == pytest.approx(0.75)


def test_noise_is_told_from_curves() -> None:
    x = np.linspace(0.0, 1.0, 500)
    noise = np.random.default_rng(0).standard_normal(500)

    assert is_noisy(noise)
    assert is_noisy(x + 0.1 * noise)
    assert not is_noisy(x)
    assert not is_noisy(np.where(np.arange(500) % 40 < 20, 1.0, 6.0))  # a switch
    assert not is_noisy(np.sin(6.0 * x))
    assert not is_noisy(np.full(500, 0.1) + 1e-17 * noise)
    assert not is_noisy(np.zeros(500))
    assert not is_noisy(np.array([1.0, math.nan, 2.0]))
