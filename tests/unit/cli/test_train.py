"""Mirrors trustopt/cli/train.py and train_job.py: whole jobs from a TOML file."""

import json
import signal

import pytest
from PIL import Image
from safetensors.torch import load_file

from trustopt.cli.main import main
from trustopt.cli.progress import Lines
from trustopt.signals import load_signals


@pytest.fixture
def press_ctrl_c(monkeypatch):
    """Return a list of steps after which a Ctrl-C arrives, as the terminal sends it."""
    steps: list[int] = []
    shown = Lines.step

    def step(self, report) -> None:
        shown(self, report)
        for _ in range(steps.count(report.step)):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Lines, "step", step)
    return steps


def test_a_job_leaves_lora_signals_and_samples_beside_its_file(job_file, capsys) -> None:
    assert main(["train", str(job_file)]) == 0
    folder = job_file.parent
    out = capsys.readouterr().out
    run = folder / "runs" / "squares"
    assert load_file(folder / "loras" / "squares.safetensors")
    assert f"LoRA:    {folder / 'loras' / 'squares.safetensors'}" in out
    assert load_signals(run / "signals.jsonl").steps.tolist() == [1, 2, 3, 4]
    pictures = [f"samples/step_00000{step}_01.png" for step in (0, 4)]
    for picture in ("signals.png", "samples/grid.png", *pictures):
        with Image.open(run / picture) as image:
            assert image.getextrema() != ((255, 255),) * 3
    listed = json.loads((run / "samples" / "index.json").read_text())["pictures"]
    assert [(p["step"], p["prompt"]) for p in listed] == [
        (0, "zork, a red square"),
        (4, "zork, a red square"),
    ]
    job = json.loads((run / "job.json").read_text())
    assert (job["steps"], job["adapter"]["rank"], job["adapter"]["alpha"]) == (4, 2, 2.0)
    assert job["optimizer"]["name"] == "emonavi"
    assert list((folder / "cache").rglob("*.safetensors"))
    assert "step 4/4  loss " in out


def test_ctrl_c_once_keeps_the_lora_and_resume_goes_on(job_file, capsys, press_ctrl_c) -> None:
    press_ctrl_c.append(2)
    before = signal.getsignal(signal.SIGINT)
    assert main(["train", str(job_file)]) == 3
    assert signal.getsignal(signal.SIGINT) is before
    out, _ = capsys.readouterr()
    lora = job_file.parent / "loras" / "squares.safetensors"
    assert "stopped, what was trained is kept: 2 steps" in out
    assert load_file(lora)

    press_ctrl_c.clear()
    assert main(["train", str(job_file), "--resume"]) == 0
    assert "resuming squares after step 2" in capsys.readouterr().out
    straight = job_file.parent / "straight.toml"
    straight.write_text(job_file.read_text())
    assert main(["train", str(straight)]) == 0
    resumed, other = load_file(lora), load_file(lora.with_name("straight.safetensors"))
    assert all((resumed[key] == other[key]).all() for key in other)


def test_ctrl_c_twice_ends_at_once_and_keeps_a_state(job_file, capsys, press_ctrl_c) -> None:
    press_ctrl_c.extend([2, 2])
    assert main(["train", str(job_file)]) == 130
    err = capsys.readouterr().err
    assert "the LoRA so far is" in err
    assert err.endswith("trustopt: interrupted\n")
    assert (job_file.parent / "runs" / "squares" / "state" / "00000002").is_dir()
    assert load_file(job_file.parent / "loras" / "squares.safetensors")


def test_a_dry_run_shows_plan_buckets_and_memory_and_trains_nothing(job_file, capsys) -> None:
    assert main(["train", str(job_file), "--dry-run", "--set", "adapter.dropout=0.5"]) == 0
    out = capsys.readouterr().out
    assert "Preset A (small) applied for 3 images (FLUX style)" in out
    assert "4 steps *" in out
    assert "64x64      1.00       3" in out
    assert "trained parameters" in out
    assert "optimizer state" in out
    assert not list(job_file.parent.rglob("*.safetensors"))
    assert not list(job_file.parent.glob("runs/*"))


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("images.folder=nowhere", "nowhere does not exist"),
        ("plan.batch_size=9", "batch_size"),
        ("optimizer.name=sgd9", "unknown optimizer 'sgd9'"),
        ("optimizer.options.trust=1", "has no option 'trust'"),
        ("model.device=cuda:99", "there is no device 'cuda:99' here: use "),
        ("samples.width=100", "[samples] width and height must be multiples of 16"),
        ("adapter.regex=nothing_like_it", "nothing_like_it"),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(job_file, capsys, setting, words) -> None:
    assert main(["train", str(job_file), "--set", setting]) == 2
    first = capsys.readouterr().err.splitlines()[0]
    assert words in first
    assert not list(job_file.parent.glob("runs/*"))


def test_without_a_job_file_it_says_how_to_get_one(capsys) -> None:
    assert main(["train"]) == 2
    assert "trustopt train --example" in capsys.readouterr().err
    assert main(["train", "--example"]) == 0
    assert "[images]" in capsys.readouterr().out
