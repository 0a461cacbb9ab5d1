import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trustopt.signals.ticks import (
    format_value,
    linear_ticks,
    log_ticks,
    minor_log_ticks,
    nice_range,
    nice_step,
)


@pytest.mark.parametrize(
    ("span", "count", "step"),
    [(1.0, 5, 0.2), (1.0, 10, 0.1), (0.3, 3, 0.1), (7.0, 4, 2.0), (9.0, 2, 5.0), (3e-4, 4, 1e-4)],
)
def test_nice_step_by_hand(span: float, count: int, step: float) -> None:
    assert nice_step(span, count) == pytest.approx(step)


def test_linear_ticks_by_hand() -> None:
    assert linear_ticks(0.04, 0.21, 4) == [
        (pytest.approx(0.05), "0.05"),
        (pytest.approx(0.10), "0.10"),
        (pytest.approx(0.15), "0.15"),
        (pytest.approx(0.20), "0.20"),
    ]


def test_learning_rate_ticks_are_scientific() -> None:
    labels = [label for _, label in linear_ticks(0.0, 1.3e-4, 4)]

    assert labels == ["0", "5e-5", "1e-4"]


@pytest.mark.parametrize(
    ("high", "labels"),
    [
        (3.0, ["0", "1", "2", "3"]),
        (1500.0, ["0", "500", "1,000", "1,500"]),
        (150_000.0, ["0", "50k", "100k", "150k"]),
        (1_000_000.0, ["0", "0.5M", "1M"]),
    ],
)
def test_step_ticks_are_whole_numbers(high: float, labels: list[str]) -> None:
    assert [label for _, label in linear_ticks(0.0, high, 3, integer=True)] == labels


def test_step_ticks_of_a_short_run_do_not_fall_between_steps() -> None:
    assert [value for value, _ in linear_ticks(0.0, 2.0, 20, integer=True)] == [0.0, 1.0, 2.0]


def test_log_ticks_take_decades_then_multiples() -> None:
    assert [label for _, label in log_ticks(5e-5, 20.0, 10)] == [
        "1e-4", "0.001", "0.01", "0.1", "1", "10",
    ]  # fmt: skip
    assert [label for _, label in log_ticks(0.04, 0.6, 5)] == ["0.05", "0.1", "0.2", "0.5"]
    assert len(log_ticks(1e-300, 1e300, 5)) <= 6


def test_minor_log_ticks_by_hand() -> None:
    assert minor_log_ticks(0.5, 4.0) == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9, 2.0, 3.0, 4.0])
    assert minor_log_ticks(1e-9, 1e9) == []


@given(
    low=st.floats(-1e12, 1e12),
    span=st.floats(1e-6, 1e12),
    count=st.integers(1, 12),
)
def test_linear_ticks_stay_inside_and_few(low: float, span: float, count: int) -> None:
    high = low + span
    if high - low < 1e-9 * abs(low):
        return
    ticks = linear_ticks(low, high, count)

    assert len(ticks) <= count + 1
    slack = 1e-6 * span
    assert all(low - slack <= value <= high + slack for value, _ in ticks)
    values = [value for value, _ in ticks]
    assert values == sorted(set(values))


@given(low=st.floats(-300.0, 300.0), span=st.floats(0.02, 200.0), count=st.integers(2, 12))
def test_log_ticks_stay_inside(low: float, span: float, count: int) -> None:
    bottom, top = 10.0**low, 10.0 ** min(low + span, 307.0)
    ticks = log_ticks(bottom, top, count)

    assert len(ticks) >= 1
    assert all(bottom * (1 - 1e-6) <= value <= top * (1 + 1e-6) for value, _ in ticks)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.08123, "0.0812"), (1.9, "1.9"), (12.0, "12"), (1234.5, "1,234"), (4.08e-4, "4.08e-4"),
        (1e-4, "1e-4"), (2.5e7, "2.5e7"), (0.0, "0"), (-0.5, "-0.5"), (math.nan, "-"),
    ],
)  # fmt: skip
def test_format_value(value: float, text: str) -> None:
    assert format_value(value) == text


def test_nice_range_by_hand() -> None:
    assert nice_range(np.array([0.0, 1.0, math.nan]), pad=0.1) == pytest.approx((-0.1, 1.1))
    assert nice_range(np.array([2.0, 2.0])) == (1.0, 3.0)
    assert nice_range(np.array([0.0])) == (-0.5, 0.5)
    assert nice_range(np.array([math.nan])) == (0.0, 1.0)
