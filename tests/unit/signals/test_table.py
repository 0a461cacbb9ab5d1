import math

import numpy as np
import pytest

from trustopt.signals.table import ColumnBuilder, Signals


def test_columns_are_padded_with_nan() -> None:
    table = ColumnBuilder()
    table.append(1, {"loss": 0.5})
    table.append(2, {"loss": 0.4, "val/loss": 0.45})
    table.append(5, {"lr": 1e-4})

    columns = table.columns()

    assert list(columns) == ["step", "loss", "val/loss", "lr"]
    assert columns["step"].dtype == np.int64
    np.testing.assert_array_equal(columns["step"], [1, 2, 5])
    np.testing.assert_array_equal(columns["loss"], [0.5, 0.4, math.nan])
    np.testing.assert_array_equal(columns["val/loss"], [math.nan, 0.45, math.nan])
    np.testing.assert_array_equal(columns["lr"], [math.nan, math.nan, 1e-4])


def test_columns_are_copies() -> None:
    table = ColumnBuilder()
    table.append(1, {"loss": 0.5})
    before = table.columns()
    table.append(2, {"loss": 0.4})

    assert len(before["loss"]) == 1
    before["loss"][0] = 9.0
    assert table.columns()["loss"][0] == 0.5


def test_signals_look_up() -> None:
    signals = Signals("a", {"step": np.array([1, 2, 3]), "loss": np.array([0.3, 0.2, math.nan])})

    assert len(signals) == 3
    assert signals.names == ["loss"]
    assert signals.last("loss") == 0.2
    assert math.isnan(signals.last("lr"))
    assert np.isnan(signals.series("lr")).tolist() == [True, True, True]


def test_no_signals_yet() -> None:
    signals = Signals.empty("a")

    assert len(signals) == 0
    assert signals.names == []
    assert math.isnan(signals.last("loss"))


def test_columns_must_be_parallel_and_have_steps() -> None:
    with pytest.raises(ValueError, match="one length"):
        Signals("a", {"step": np.array([1, 2]), "loss": np.array([0.3])})
    with pytest.raises(ValueError, match="'step' column"):
        Signals("a", {"loss": np.array([0.3])})
