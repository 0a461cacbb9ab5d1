from types import SimpleNamespace

import pytest

from trustopt.cli import bench_steps
from trustopt.cli.bench_steps import Watch, late_over_early


def test_growth_is_the_slope_without_the_first_fifth():
    watch = Watch(200)
    # MiB: much at the start, then half a KiB a step.
    watch.memory = [(step, 900.0 if step <= 40 else step / 2048) for step in range(1, 201)]
    assert watch.growth() == pytest.approx(0.5)


def test_slow_down_is_of_medians():
    assert late_over_early([9.0] * 10 + [2.0] * 10 + [7.0] * 20 + [3.0] * 9 + [90.0]) == 1.5


def test_the_same_work_is_timed_beside_the_steps(monkeypatch):
    ticks = iter(range(100))
    monkeypatch.setattr(bench_steps.time, "process_time", lambda: float(next(ticks)))
    watch = Watch(400)
    for step in range(1, 5):
        watch.on_step(SimpleNamespace(step=step), None)
    assert watch.every == 2
    assert watch.seconds == [1.0] * 4  # the other work's two readings are no step's
    assert watch.reference == [1.0, 1.0]
    assert [step for step, _ in watch.memory] == [2, 4]
