"""Mirrors trustopt/cli/demo.py and demo_job.py: the first thing a new user runs."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from trustopt.cli import demo_job
from trustopt.cli.main import main


@pytest.fixture(autouse=True)
def _one_sample(monkeypatch) -> None:
    monkeypatch.setattr(demo_job, "SHOWN", ("fox",))


@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_the_demo_leaves_a_lora_and_two_pictures_and_says_where(
    family, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    assert main(["demo", "--family", family, "--steps", "2"]) == 0
    out = capsys.readouterr().out
    folder = tmp_path / "trustopt-demo"
    places = {
        "LoRA": folder / f"demo_{family}.safetensors",
        "signals": folder / "signals.png",
        "samples": folder / "samples" / "before_after.png",
    }
    for name, path in places.items():
        assert path.exists()
        assert f"{name}:" in out
        assert str(path.relative_to(tmp_path)) in out
    assert any(t.abs().max() > 0 for key, t in load_file(places["LoRA"]).items() if "up" in key)
    assert "2 steps *" in out
    assert ("random weights" in out) == (family == "flux")  # says that its pictures are noise
    assert torch.get_num_threads() == threads


def test_results_are_never_overwritten(tmp_path, capsys) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    kept = folder / "mine.txt"
    kept.write_text("mine")
    assert main(["demo", "--family", "flux", "--steps", "1", "--out", str(folder)]) == 0
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]
    assert (tmp_path / "out-2" / "demo_flux.safetensors").exists()
    assert str(tmp_path / "out-2") in capsys.readouterr().out


def test_the_grid_shows_before_after_and_the_picture_trained_on(tmp_path) -> None:
    out = tmp_path / "out"
    args = ["--family", "flux", "--steps", "30", "--optimizer", "adamw", "--out", str(out)]
    assert main(["demo", *args]) == 0
    with Image.open(out / "samples" / "before_after.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(float)
    from trustopt.signals.picture_grid import CELL, GAP, HEADING, LABEL

    lefts = [LABEL + GAP + column * (CELL + GAP) for column in range(3)]
    before, after, picture = (pixels[HEADING : HEADING + CELL, x : x + CELL] for x in lefts)
    assert abs(before - after).mean() > 1.0
    with Image.open(demo_job.PICTURES / "fox.png") as fox:
        wanted = np.asarray(fox.convert("RGB").resize((CELL, CELL), Image.Resampling.LANCZOS))
    assert abs(picture - wanted).mean() < 8.0


def test_bad_arguments_are_refused_before_a_folder_is_made(tmp_path, capsys) -> None:
    out = tmp_path / "out"
    assert main(["demo", "--steps", "0", "--out", str(out)]) == 2
    assert "steps must be a whole number of at least 1" in capsys.readouterr().err
    assert main(["demo", "--optimizer", "sgd9", "--out", str(out)]) == 2
    assert "unknown optimizer 'sgd9'" in capsys.readouterr().err
    assert not out.exists()
    (tmp_path / "file").write_text("")
    assert main(["demo", "--out", str(tmp_path / "file" / "out")]) == 2
    assert "choose another with --out" in capsys.readouterr().err
