"""Mirrors trustopt/train/keeper.py: what is due when, and what is recorded."""

import errno

import pytest
import torch
from safetensors.torch import load_file
from toy import ToyHost, job

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


def test_a_copy_never_overwrites_the_run_that_has_its_name(tmp_path) -> None:
    other = run_job(job(tmp_path, name="toy_step5", lr=1e-3))
    before = other.lora.read_bytes()
    wishes, copies = [["save"] if step == 4 else [] for step in range(12)], []
    hooks = Hooks(wishes=lambda: wishes.pop(0), on_copied=lambda step, path: copies.append(path))

    run_job(job(tmp_path, hooks=hooks))

    assert other.lora.read_bytes() == before
    assert [path.name for path in copies] == ["toy_step5-2.safetensors"]
    assert copies[0].exists()


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


def sampling(tmp_path, on_sample, **settings):
    """Run a job whose face makes sample pictures; return its result and what was told."""
    told, failed = [], []
    hooks = Hooks(
        on_sample=on_sample,
        on_report=told.append,
        on_sample_failed=lambda step, error: failed.append((step, error)),
        **settings.pop("hooks", {}),
    )
    return run_job(job(tmp_path, hooks=hooks, **settings)), told, failed


def test_samples_are_made_before_every_so_often_at_the_end_and_on_wish(tmp_path) -> None:
    steps = []
    wishes = iter(["", "", "sample", "", "sample", "", *[""] * 6])
    on_sample = lambda run: steps.append(run.step)  # noqa: E731
    hooks = {"wishes": lambda: {next(wishes)}}
    sampling(tmp_path, on_sample, sample_every=4, hooks=hooks)
    assert steps == [0, 3, 4, 5, 8, 12]  # step 12 is due and the last: once

    steps.clear()
    sampling(tmp_path / "never", on_sample)
    assert steps == [0, 12]


def test_a_resumed_run_samples_from_its_next_time_on(tmp_path) -> None:
    steps = []

    def break_off(run):
        steps.append(run.step)
        if run.step == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sampling(tmp_path, break_off, sample_every=4)
    steps.clear()
    result, _, _ = sampling(
        tmp_path, lambda run: steps.append(run.step), sample_every=4, resume=True
    )
    assert steps == [12]
    assert result.lora.name == "toy.safetensors"


def test_failing_samples_are_told_and_change_nothing(tmp_path) -> None:
    straight = run_job(job(tmp_path / "straight", ema_decay=0.5, sample_every=3))

    def fail(run):
        if run.step in (0, 6, 12):
            raise RuntimeError("out of memory\nand much more")

    result, told, failed = sampling(tmp_path / "failing", fail, ema_decay=0.5, sample_every=3)
    assert result.status == "finished"
    assert result.lora.read_bytes() == straight.lora.read_bytes()
    assert [step for step, _ in failed] == [0, 6, 12]
    said = [text for text in told if "sample pictures failed" in text]
    assert said[1] == (
        "step 6: the sample pictures failed (RuntimeError: out of memory); training goes on"
    )
    events = [(e.step, e.name) for e in result.signals.events if e.name == "samples failed"]
    assert events == [(0, "samples failed"), (6, "samples failed"), (12, "samples failed")]


@pytest.mark.parametrize("step", [0, 6, 12])
def test_an_interrupt_while_sampling_keeps_what_was_trained(tmp_path, step) -> None:
    straight = run_job(job(tmp_path / "straight", sample_every=3))

    def interrupt(run):
        if run.step == step:
            raise KeyboardInterrupt

    folder = tmp_path / "interrupted"
    with pytest.raises(KeyboardInterrupt):
        sampling(folder, interrupt, sample_every=3, save_every=0)
    lora = folder / "loras" / "toy.safetensors"
    assert lora.exists() == (step > 0)
    resumed = run_job(job(folder, sample_every=3, resume=True))
    expected = "toy.safetensors" if step else "toy_2.safetensors"
    assert resumed.lora.name == expected
    assert load_file(resumed.lora).keys() == load_file(straight.lora).keys()
    assert all(
        torch.equal(one, other)
        for one, other in zip(
            load_file(resumed.lora).values(), load_file(straight.lora).values(), strict=True
        )
    )


def test_prompts_can_be_encoded_once_before_the_session(tmp_path) -> None:
    host, order = ToyHost(), []
    hooks = Hooks(
        on_encoded=lambda: order.append((len(host.encoded) > 0, len(host.sessions))),
        on_start=lambda run, folder: order.append(len(host.sessions)),
    )
    run_job(job(tmp_path, host=host, hooks=hooks))
    assert order == [(True, 0), 1]
