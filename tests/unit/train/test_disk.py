"""Mirrors trustopt/train/disk.py, and disks that are full after all."""

import errno
import shutil
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file
from toy import ToyHost, job

from trustopt.signals import load_signals
from trustopt.train.disk import needed_bytes, states_to_come
from trustopt.train.folders import Folders
from trustopt.train.hooks import Hooks
from trustopt.train.run import run_job
from trustopt.train.tree_file import save_tree


@pytest.mark.parametrize(
    ("settings", "done", "there", "count"),
    [
        ({"steps": 1000, "save_every": 250, "keep_last": 2}, 0, 0, 3),  # two, and one being built
        ({"steps": 300, "save_every": 250, "keep_last": 5}, 0, 0, 2),
        ({"steps": 1000, "save_every": 0, "keep_last": 5}, 0, 0, 1),
        ({"steps": 1000, "save_every": 250, "keep_last": 2}, 500, 2, 1),
        ({"steps": 1000, "save_every": 250, "keep_last": 9}, 500, 2, 2),
        ({"steps": 1000, "save_every": 250, "keep_last": 2}, 1000, 2, 1),
    ],
)
def test_states_to_come(tmp_path, settings, done, there, count) -> None:
    assert states_to_come(job(tmp_path, **settings), done, there) == count


def test_folders_of_one_disk_are_added_up(tmp_path) -> None:
    one = Folders(loras=tmp_path / "a", runs=tmp_path / "b")
    one.check_writable()
    assert needed_bytes(one, 100, 7) == {tmp_path / "b": 107}


def test_what_will_not_fit_is_refused_before_any_work(tmp_path, monkeypatch) -> None:
    host = ToyHost()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(ValueError, match=r"3 saved states of .*1000|and 1 KiB are free") as caught:
        run_job(job(tmp_path, host=host))
    assert "free disk space, lower keep_last, or choose another output folder" in str(caught.value)
    assert host.images_encoded == 0
    assert not list((tmp_path / "runs").iterdir())


@pytest.fixture
def limit_files():
    """Let the system refuse files that grow beyond so many bytes: a full disk, as programs see it.

    The real refusal counts: libraries answer it with errors of their own.
    """
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_tree_that_does_not_fit_is_the_systems_error(tmp_path, limit_files) -> None:
    import torch

    limit_files(1000)
    with pytest.raises(OSError, match="File too large") as caught:
        save_tree(tmp_path / "tree.safetensors", {"a": torch.zeros(1000)})
    limit_files(2**40)  # the report of this test must fit as well
    assert caught.value.errno == errno.EFBIG


def fails_at(step: int, limit) -> Hooks:
    """The disk fills up after a step."""

    def on_step(report, recorder) -> None:
        if report.step == step:
            limit()

    return Hooks(on_step=on_step)


def test_a_full_disk_ends_the_run_keeps_the_lora_and_resumes(tmp_path, limit_files, caplog) -> None:
    straight = run_job(job(tmp_path / "straight"))
    state = tmp_path / "full" / "runs" / "toy" / "state"

    # The states are larger than this, the LoRA and the signals are not.
    hooks = fails_at(6, lambda: limit_files(12_000))
    with pytest.raises(OSError, match="step 8 could not be saved") as caught:
        run_job(job(tmp_path / "full", hooks=hooks))
    limit_files(2**40)

    assert "free disk space and resume; the newest saved state is step 4" in str(caught.value)
    assert "the steps since step 4 are lost to resume" in caplog.text
    assert [p.name for p in state.iterdir()] == ["00000004"]
    assert load_file(tmp_path / "full" / "loras" / "toy.safetensors")
    resumed = run_job(job(tmp_path / "full", resume=True))
    assert resumed.lora.read_bytes() == straight.lora.read_bytes()
    assert load_signals(resumed.folder.signals).steps.tolist() == list(range(1, 13))


def test_signals_that_cannot_be_written_say_where_and_what_to_do(tmp_path, limit_files) -> None:
    hooks = fails_at(6, lambda: limit_files(100))
    with pytest.raises(OSError, match=r"signals\.jsonl cannot be written") as caught:
        run_job(job(tmp_path, hooks=hooks))
    limit_files(2**40)
    assert "free disk space, then resume the run" in str(caught.value)
    assert run_job(job(tmp_path, resume=True)).signals.steps.tolist() == list(range(1, 13))
