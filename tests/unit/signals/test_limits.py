import math

import numpy as np
import pytest

from trustopt.signals.limits import step_range, y_limits
from trustopt.signals.panels import Curve, Kind, Panel
from trustopt.signals.table import Signals


def make_panel(kind: Kind, *series: object, log: bool = False) -> Panel:
    curves = [
        Curve(name="x", label="x", raw=(np.arange(len(values)), np.asarray(values, np.float64)))
        for values in series
    ]
    return Panel(kind=kind, title="", curves=curves, log=log)


def run(*steps: int) -> Signals:
    return Signals("a", {"step": np.array(steps, np.int64)})


def test_steps_begin_at_zero_when_training_does() -> None:
    assert step_range([run(1, 50, 100)]) == pytest.approx((0.0, 101.0))
    assert step_range([run(), run(200, 300), run(250, 400)]) == pytest.approx((200.0, 402.0))
    assert step_range([run(7)]) == (6.0, 8.0)


def test_bounded_signals_have_fixed_limits() -> None:
    assert y_limits(make_panel("bounded", [0.2, 0.3])) == (-0.02, 1.05)
    assert y_limits(make_panel("bounded", [0.2], [math.nan, -0.1])) == (-1.05, 1.05)


def test_a_learning_rate_begins_at_zero() -> None:
    low, high = y_limits(make_panel("lr", [1e-4, 0.9e-4]))

    assert low == 0.0
    assert 1e-4 < high < 1.2e-4


def test_one_spike_does_not_press_the_loss_flat() -> None:
    loss = np.linspace(0.2, 0.1, 1000)
    loss[500] = 90.0

    assert y_limits(make_panel("loss", loss))[1] < 0.25
    # But every value of another signal is shown.
    assert y_limits(make_panel("other", loss))[1] > 90.0


def test_log_limits_hold_all_values() -> None:
    low, high = y_limits(make_panel("norm", [1e-3, 1.0, 0.0, math.nan], log=True))

    assert 5e-4 < low < 1e-3
    assert 1.0 < high < 2.0
