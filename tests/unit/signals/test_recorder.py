import errno
import json
import logging
import math
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from trustopt.signals import recorder as recorder_module
from trustopt.signals.recorder import Recorder, load_signals, read_scalars
from trustopt.signals.table import Event


def losses(path: Path) -> list[tuple[int, float]]:
    signals = load_signals(path)
    return list(zip(signals.steps.tolist(), signals.series("loss").tolist(), strict=True))


def test_records_numbers_and_tensors(tmp_path: Path) -> None:
    path = tmp_path / "anna" / "signals.jsonl"
    with Recorder(path) as recorder:
        recorder.record(
            1,
            {
                "loss": torch.tensor(0.5, requires_grad=True),
                "lr": 1e-4,
                "opt/danger": torch.tensor([[0.25]], dtype=torch.bfloat16),
                "opt/should_stop": torch.tensor(True),
                "count": torch.tensor(7),
                "skipped": False,
                "val/loss": None,
                "grad_norm": np.float32(2.0),
            },
        )
        columns = recorder.columns()

    expected = {
        "step": 1, "loss": 0.5, "lr": 1e-4, "opt/danger": 0.25, "opt/should_stop": 1.0,
        "count": 7.0, "skipped": 0.0, "grad_norm": 2.0,
    }  # fmt: skip
    assert {name: values.item() for name, values in columns.items()} == expected
    assert list(columns) == list(expected)  # the caller's order
    assert json.loads(path.read_text()) == expected
    loaded = load_signals(path)
    assert loaded.run == "anna"
    assert {name: values.item() for name, values in loaded.columns.items()} == expected


def test_a_line_is_in_the_file_before_record_returns(tmp_path: Path) -> None:
    path = tmp_path / "signals.jsonl"
    recorder = Recorder(path)
    for step in range(1, 4):
        recorder.record(step, {"loss": 1.0 / step})
        assert len(path.read_bytes().splitlines()) == step
    recorder.close()
    recorder.close()


def test_tensors_of_a_device_are_read_in_one_transfer(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    read_back = recorder_module._read_back

    def spy(device: torch.device, tensors: list[torch.Tensor]) -> list[float]:
        reads.append((device.type, len(tensors)))
        return read_back(device, tensors)

    monkeypatch.setattr(recorder_module, "_read_back", spy)
    monkeypatch.setattr(torch.Tensor, "item", lambda self: pytest.fail("a read of its own"))
    monkeypatch.setattr(torch.Tensor, "__float__", lambda self: pytest.fail("a read of its own"))
    values = {f"s{i}": torch.tensor(float(i)) for i in range(20)}

    assert read_scalars(values) == {f"s{i}": float(i) for i in range(20)}
    assert reads == [("cpu", 20)]


def test_non_finite_values_survive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "signals.jsonl"
    with Recorder(path) as recorder:
        recorder.record(1, {"loss": math.nan, "grad_norm": math.inf, "a": -math.inf})

    loaded = load_signals(path)

    assert math.isnan(loaded.series("loss")[0])
    assert loaded.series("grad_norm")[0] == math.inf
    assert loaded.series("a")[0] == -math.inf


def test_a_new_run_never_writes_over_an_old_one(tmp_path: Path) -> None:
    path = tmp_path / "signals.jsonl"
    with Recorder(path) as recorder:
        recorder.record(1, {"loss": 0.5})
    before = path.read_bytes()

    with pytest.raises(ValueError, match="already holds a run's signals"):
        Recorder(path)
    assert path.read_bytes() == before


def test_steps_must_advance_and_names_be_free() -> None:
    recorder = Recorder()
    recorder.record(3, {"loss": 0.5})

    for step in (3, 2):
        with pytest.raises(ValueError, match="steps must increase"):
            recorder.record(step, {"loss": 0.4})
    for name in ("step", "event"):
        with pytest.raises(ValueError, match="not free"):
            recorder.record(4, {name: 0.4})
    with pytest.raises(ValueError, match=r"must be one number.*\(2,\)"):
        recorder.record(4, {"loss": torch.zeros(2)})
    assert recorder.columns()["step"].tolist() == [3]


def test_resume_equals_a_run_that_was_never_interrupted(tmp_path: Path) -> None:
    def values(step: int) -> dict[str, float]:
        sparse = {"val/loss": 1.0 / step} if step % 4 == 0 else {}
        return {"loss": math.sin(step) / 3.0, "lr": 1e-4 / step, **sparse}

    whole, broken = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
    with Recorder(whole) as recorder:
        for step in range(1, 21):
            recorder.record(step, values(step))
    with Recorder(broken) as recorder:
        for step in range(1, 15):
            recorder.record(step, values(step))

    with Recorder.resume(broken, 10) as recorder:
        for step in range(11, 21):
            recorder.record(step, values(step))
        resumed = recorder.signals()

    expected, loaded = load_signals(whole), load_signals(broken)
    assert list(loaded.columns) == list(expected.columns)
    for name, column in expected.columns.items():
        np.testing.assert_array_equal(loaded.columns[name], column)
        np.testing.assert_array_equal(resumed.columns[name], column)
    assert loaded.events == resumed.events == (Event(10, "resume"),)


@pytest.mark.parametrize("cut", range(1, 26))
def test_resume_after_a_crash_in_mid_write(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "signals.jsonl"
    with Recorder(path) as recorder:
        for step in range(1, 6):
            recorder.record(step, {"loss": step / 8.0})
    size = path.stat().st_size
    os.truncate(path, size - cut)

    with Recorder.resume(path, 4) as recorder:
        recorder.record(5, {"loss": 0.99})

    assert losses(path) == [(1, 0.125), (2, 0.25), (3, 0.375), (4, 0.5), (5, 0.99)]
    assert all(json.loads(line) for line in path.read_bytes().splitlines())
    assert [p.name for p in tmp_path.iterdir()] == ["signals.jsonl"]


def test_resume_from_a_step_between_recorded_ones(tmp_path: Path) -> None:
    path = tmp_path / "signals.jsonl"
    with Recorder(path) as recorder:
        for step in (0, 5, 10, 15):
            recorder.record(step, {"loss": float(step)})
        recorder.event("save", 10)
        recorder.event("stop")

    with Recorder.resume(path, 12) as recorder:
        assert recorder.columns()["step"].tolist() == [0, 5, 10]
        assert recorder.signals().events == (Event(10, "save"), Event(12, "resume"))
        recorder.record(13, {"loss": 13.0})


def test_resuming_twice_at_one_step_leaves_one_mark(tmp_path: Path) -> None:
    path = tmp_path / "signals.jsonl"
    with Recorder(path) as recorder:
        recorder.record(1, {"loss": 0.5})
    for _ in range(2):
        Recorder.resume(path, 1).close()

    assert load_signals(path).events == (Event(1, "resume"),)


def test_lost_signals_do_not_stop_a_resume(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "run" / "signals.jsonl"

    with caplog.at_level(logging.WARNING, logger="trustopt"):
        recorder = Recorder.resume(path, 100)
    recorder.record(101, {"loss": 0.5})
    recorder.close()

    assert "the steps between are lost" in caplog.text
    assert losses(path) == [(101, 0.5)]


def test_a_failed_resume_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "signals.jsonl"
    with Recorder(path) as recorder:
        recorder.record(1, {"loss": 0.5})
        recorder.record(2, {"loss": 0.4})
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        Recorder.resume(path, 1)

    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["signals.jsonl"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_records_nothing() -> None:
    recorder = Recorder()
    recorder._file = open("/dev/full", "ab", buffering=0)  # noqa: SIM115
    with pytest.raises(OSError, match="No space left"):
        recorder.record(1, {"loss": 0.5})
    assert len(recorder.columns()["step"]) == 0
    recorder.close()


def test_half_a_line_is_taken_back(tmp_path: Path) -> None:
    """A disk that fills up in the middle of a line must not spoil the next one."""

    class Filling:
        def __init__(self, path: Path) -> None:
            self.file = path.open("ab", buffering=0)
            self.full = True

        def write(self, line: bytes) -> int:
            written = self.file.write(line[:5] if self.full else line)
            self.full = False
            return written

        def __getattr__(self, name: str) -> object:
            return getattr(self.file, name)

    path = tmp_path / "signals.jsonl"
    recorder = Recorder(path)
    recorder.record(1, {"loss": 0.5})
    recorder.close()
    recorder._file = Filling(path)
    with pytest.raises(OSError, match="No space left"):
        recorder.record(2, {"loss": 0.4})
    recorder.record(2, {"loss": 0.4})
    recorder.close()

    assert losses(path) == [(1, 0.5), (2, 0.4)]


def test_signals_may_be_read_while_another_thread_records() -> None:
    recorder = Recorder()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            recorder.signals()  # columns of unequal length would raise

    reader = threading.Thread(target=read)
    reader.start()
    for step in range(1, 2000):
        recorder.record(step, {"loss": 0.1, f"series {step % 50}": 1.0})
    done.set()
    reader.join()

    assert len(recorder.signals()) == 1999


def test_signals_are_a_snapshot() -> None:
    recorder = Recorder(run="anna", meta={"optimizer": "AdamW"})
    recorder.record(1, {"loss": 0.5})
    recorder.event("save")
    before = recorder.signals()
    recorder.record(2, {"loss": 0.4})
    recorder.event("save")

    assert (before.run, before.meta) == ("anna", {"optimizer": "AdamW"})
    assert before.steps.tolist() == [1]
    assert before.events == (Event(1, "save"),)


def test_loading_a_missing_file_says_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no signals at .*give the signals\.jsonl"):
        load_signals(tmp_path / "signals.jsonl")
