"""Mirrors trustopt/cli/progress.py and meter.py: what is shown while a run goes."""

import math

import pytest

from trustopt.cli.meter import Meter
from trustopt.cli.progress import Bars, Lines, is_due
from trustopt.train.loop import StepReport


def report(step: int, loss: float = 1.0, seconds: float = 0.5, *, skipped=False) -> StepReport:
    return StepReport(
        step=step,
        loss=loss,
        level_free_loss=loss,
        grad_norm=1.0,
        lr=1e-4,
        epoch=1,
        seconds=seconds,
        skipped=skipped,
    )


def test_the_first_figures_are_those_of_the_first_step() -> None:
    meter = Meter(100)
    assert math.isnan(meter.loss)
    meter.update(report(1, loss=2.0))
    assert meter.loss == pytest.approx(2.0)
    assert meter.text() == "loss 2.000  lr 1e-4  0.5 s/step  ETA 50 s"


def test_the_loss_is_smoothed_and_skipped_steps_leave_it_alone() -> None:
    meter = Meter(100)
    for step in range(1, 60):
        meter.update(report(step, loss=1.0 + (step % 2)))
    meter.update(report(60, loss=math.nan, skipped=True))
    assert meter.loss == pytest.approx(1.5, abs=0.05)


def test_one_slow_step_does_not_change_the_time_left() -> None:
    meter = Meter(100)
    meter.update(report(1, seconds=60.0))
    for step in range(2, 12):
        meter.update(report(step))
    assert meter.seconds_per_step == pytest.approx(0.5)


@pytest.mark.parametrize(("total", "lines"), [(300, 20), (7, 20), (20, 2), (1, 2), (1000, 3)])
def test_lines_are_evenly_spread_and_the_last_step_has_one(total, lines) -> None:
    due = [done for done in range(1, total + 1) if is_due(done, total, lines)]
    assert len(due) == min(total, lines)
    assert due[-1] == total


def test_plain_lines_say_stage_step_and_text(capsys) -> None:
    lines = Lines()
    for done in range(1, 5):
        lines.stage("encoding images", done, 4)
    lines.say("[not markup]")
    lines.begin(0, 200)
    for step in range(1, 201):
        lines.step(report(step))
    out = capsys.readouterr().out.splitlines()
    assert out[:3] == ["encoding images 2/4", "encoding images 4/4", "[not markup]"]
    assert out[3].startswith("step   1/200  loss 1.000")
    assert out[-1].startswith("step 200/200")
    assert len(out) == 3 + 1 + 20


def test_bars_show_the_same_in_80_columns(capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    bars = Bars()
    with bars.bars:
        bars.stage("encoding images", 4, 4)
        bars.say("[not markup]")
        bars.begin(0, 2000)
        bars.step(report(1))
        bars.step(report(2000))
    shown = capsys.readouterr().out
    assert "[not markup]" in shown
    assert [task.description for task in bars.bars.tasks] == ["encoding images", "training"]
    last = shown.splitlines()[-1]
    assert "2000/2000" in last
    assert "loss 1.000  lr 1e-4  0.5 s/step  ETA 0 s" in last
