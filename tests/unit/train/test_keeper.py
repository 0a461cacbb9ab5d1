"""Mirrors trustopt/train/keeper.py: what is due when, and what is recorded."""

import errno

import pytest
from toy import job

from trustopt.config import OptimizerConfig
from trustopt.optim import EmoNavi
from trustopt.train import keeper
from trustopt.train.hooks import Hooks
from trustopt.train.keeper import is_due, loss_by_level
from trustopt.train.loop import StepReport
from trustopt.train.run import run_job


def test_is_due() -> None:
    assert [s for s in range(1, 11) if is_due(s, 4)] == [4, 8]
    assert [s for s in range(1, 11) if is_due(s, 4, last=10)] == [4, 8, 10]
    assert not any(is_due(s, 0, last=10) for s in range(1, 11))


def test_loss_by_level_means_each_tenth() -> None:
    report = StepReport(
        step=1,
        loss=0.0,
        level_free_loss=0.0,
        grad_norm=0.0,
        lr=0.0,
        epoch=1,
        seconds=0.0,
        skipped=False,
        levels=[0.05, 0.09, 0.31, 0.99999999],
        sample_losses=[1.0, 3.0, 5.0, 7.0],
    )
    assert loss_by_level(report) == {"loss_bin/0": 2.0, "loss_bin/3": 5.0, "loss_bin/9": 7.0}


def test_a_full_disk_names_the_newest_state_and_loses_none(tmp_path, monkeypatch) -> None:
    real, saves = keeper.save_state, []

    def full_on_the_second(*args, **settings):
        saves.append(args)
        if len(saves) >= 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args, **settings)

    monkeypatch.setattr(keeper, "save_state", full_on_the_second)
    with pytest.raises(OSError, match="newest saved state is step 4") as caught:
        run_job(job(tmp_path))
    assert caught.value.errno == errno.ENOSPC
    assert "free disk space" in str(caught.value)

    monkeypatch.setattr(keeper, "save_state", real)
    resumed = run_job(job(tmp_path, resume=True))
    straight = run_job(job(tmp_path / "straight"))
    assert resumed.lora.read_bytes() == straight.lora.read_bytes()


@pytest.mark.parametrize(("wish", "steps"), [("stop", 32), ("ignore", 40), ("save and go on", 40)])
def test_should_stop_is_obeyed_as_the_user_chose(tmp_path, monkeypatch, wish, steps) -> None:
    settled = property(lambda optimizer: len(optimizer.loss_signal.history) == 32)
    monkeypatch.setattr(EmoNavi, "should_stop", settled)
    optimizer = OptimizerConfig(name="emonavi", options={"on_should_stop": wish})
    told, saved = [], []
    hooks = Hooks(on_report=told.append, on_saved=lambda step, path: saved.append(step))

    result = run_job(job(tmp_path, steps=40, save_every=0, optimizer=optimizer, hooks=hooks))

    assert result.steps == steps
    assert saved == {"stop": [32], "ignore": [40], "save and go on": [32, 40]}[wish]
    assert sum("should_stop" in text for text in told) == 1
    assert [(e.step, e.name) for e in result.signals.events if e.name == "should_stop"] == [
        (32, "should_stop")
    ]
