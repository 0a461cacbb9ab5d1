"""The scalar made of the loss, by hand-computed values; the records replay it at length."""

import math

import pytest

from trustopt.optim.loss_signal import (
    LossMemory,
    LossSignal,
    absolute_scalar,
    damping,
    drive,
    early_scalar,
    relative_scalar,
)


def test_the_first_loss_is_every_average() -> None:
    memory = LossMemory()
    memory.observe(0.5)
    assert (memory.short, memory.medium, memory.long) == pytest.approx((0.5, 0.5, 0.5))
    memory.observe(1.5)
    assert (memory.short, memory.medium, memory.long) == pytest.approx((0.8, 0.55, 0.51))


def test_absolute_scalar_rises_with_the_loss() -> None:
    memory = LossMemory(short=0.3, medium=0.2, long=0.2)
    assert absolute_scalar(memory) == pytest.approx(math.tanh(0.5))
    assert damping(absolute_scalar(memory)) == pytest.approx(1 - math.tanh(0.5))


def test_relative_scalar_rises_as_the_loss_falls() -> None:
    memory = LossMemory(short=0.1, medium=0.15, long=0.2)
    assert early_scalar(memory) == pytest.approx(math.tanh(0.5))
    assert relative_scalar(memory) in (
        pytest.approx(math.tanh(0.5)),
        pytest.approx(math.tanh(0.1 / 0.15)),
    )


@pytest.mark.parametrize(
    ("scalar", "expected"),
    [
        (0.2, 1.0),
        (0.3, 8 * 0.7 * 1.07),
        (-0.3, 8 * 0.7 * 0.93),
        (0.6, 1.0),
        (-0.8, 0.2),
    ],
)
def test_drive(scalar: float, expected: float) -> None:
    assert drive(scalar) == pytest.approx(expected)


def test_stop_counts_steps_and_stays() -> None:
    signal = LossSignal()
    for step in range(31):
        signal.observe(0.1)
        assert not signal.should_stop, step
    signal.observe(0.1)
    assert signal.should_stop
    for _ in range(40):
        signal.observe(5.0)
    assert signal.should_stop


def test_no_stop_while_the_loss_moves() -> None:
    signal = LossSignal()
    for step in range(100):
        signal.observe(0.1 if step % 2 else 0.4)
    assert not signal.should_stop


def test_a_bad_loss_changes_nothing_but_the_count() -> None:
    signal = LossSignal("3.6")
    signal.observe(0.1)
    signal.observe(0.2)
    before = signal.state_dict()
    assert not signal.observe(float("nan"))
    assert signal.state_dict() == {**before, "num_skipped": 1}


def test_resumes() -> None:
    straight, resumed = LossSignal("3.6"), LossSignal("3.6")
    for step in range(50):
        if step == 20:
            resumed.load_state_dict(straight.state_dict())
        loss = 0.1 + 0.05 * math.sin(step)
        straight.observe(loss)
        if step >= 20:
            resumed.observe(loss)
    assert resumed.state_dict() == straight.state_dict()
