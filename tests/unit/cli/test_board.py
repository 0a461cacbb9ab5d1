"""Mirrors trustopt/cli/board.py: TensorBoard reads what was written."""

import pytest

from trustopt.cli import board
from trustopt.cli.main import main
from trustopt.signals import load_signals


@pytest.fixture
def read():
    """Return a function that reads a run's event files as TensorBoard does."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def read(folder):
        found = EventAccumulator(str(folder / board.FOLDER))
        found.Reload()
        return found

    return read


def test_signals_and_pictures_are_in_the_log(job_file, read, capsys) -> None:
    assert main(["train", str(job_file), "--tensorboard"]) == 0
    run = job_file.parent / "runs" / "squares"
    assert f"board:   {run / 'tensorboard'}" in capsys.readouterr().out

    found, signals = read(run), load_signals(run / "signals.jsonl")
    assert set(found.Tags()["scalars"]) == set(signals.names)
    losses = found.Scalars("loss")
    assert [entry.step for entry in losses] == [1, 2, 3, 4]
    assert [entry.value for entry in losses] == pytest.approx(signals.series("loss").tolist())
    pictures = found.Images("samples/1: zork, a red square")
    assert [(p.step, p.width) for p in pictures] == [(0, 64), (4, 64)]


def test_a_resumed_run_is_one_curve(job_file, read) -> None:
    settings = ["--set", "output.tensorboard=true", "--set", "samples.prompts=[]"]
    assert main(["train", str(job_file), *settings]) == 0
    assert main(["train", str(job_file), *settings, "--resume", "--set", "plan.steps=6"]) == 0
    found = read(job_file.parent / "runs" / "squares")
    assert [entry.step for entry in found.Scalars("loss")] == [1, 2, 3, 4, 5, 6]


def test_without_the_package_it_says_how_to_get_it(job_file, capsys, monkeypatch) -> None:
    monkeypatch.setattr(board, "find_spec", lambda name: None)
    for also in ([], ["--dry-run"]):
        assert main(["train", str(job_file), "--tensorboard", *also]) == 2
        assert "pip install tensorboard" in capsys.readouterr().err.splitlines()[0]
    assert not list(job_file.parent.glob("runs/*"))
