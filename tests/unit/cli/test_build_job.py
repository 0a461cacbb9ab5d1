"""Mirrors trustopt/cli/build_job.py: the model files and settings of a job file."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from trustopt.cli.build_job import choose_dtype, load_images
from trustopt.cli.job_file import read_job_file
from trustopt.cli.main import main
from trustopt.hosts.tiny.weights import tiny_state_dict


@pytest.fixture
def flux_files(job_file):
    """Write the tiny FLUX the way FLUX is shared, network and parts apart; return the settings."""
    folder = job_file.parent / "models"
    folder.mkdir()
    for part, weights in tiny_state_dict("flux").items():
        save_file({k: t.contiguous() for k, t in weights.items()}, folder / f"{part}.safetensors")
    files = [f"models/{part}.safetensors" for part in ("vae", "clip_l", "t5xxl")]
    return [
        *("--set", "model.path=models/unet.safetensors", "--set", "model.family=auto"),
        *("--set", f"model.files={json.dumps(files)}", "--set", "plan.steps=1"),
        *("--set", "samples.prompts=[]"),
    ]


def test_a_checkpoint_and_the_files_of_its_parts_are_trained(job_file, flux_files) -> None:
    assert main(["train", str(job_file), *flux_files]) == 0
    saved = load_file(job_file.parent / "loras" / "squares.safetensors")
    assert any(tensor.abs().max() > 0 for key, tensor in saved.items() if "lora_up" in key)


def test_missing_parts_and_another_family_are_named(job_file, flux_files, capsys) -> None:
    assert main(["train", str(job_file), *flux_files, "--set", "model.files=[]"]) == 2
    assert "unet.safetensors holds no T5" in capsys.readouterr().err.splitlines()[0]
    assert main(["train", str(job_file), *flux_files, "--set", "model.family=sdxl"]) == 2
    first = capsys.readouterr().err.splitlines()[0]
    assert "[model] says family sdxl, but unet.safetensors is flux" in first


def test_regularisation_pictures_join_the_set(job_file) -> None:
    plain = load_images(read_job_file(job_file))
    settings = ["images.regularisation=pictures", "images.repeats=3"]
    both = load_images(read_job_file(job_file, settings))
    assert [s.is_regularisation for s in plain.samples] == [False] * 3
    assert [s.is_regularisation for s in both.samples] == [False] * 3 + [True] * 3
    assert {s.repeats for s in both.samples if not s.is_regularisation} == {3}


def test_all_pictures_have_captions_of_the_same_extension(job_file) -> None:
    for path in (job_file.parent / "pictures").glob("*.txt"):
        path.with_suffix(".tags").write_text("from tags")
    settings = ["images.regularisation=pictures", "images.caption_extension=.tags"]
    images = load_images(read_job_file(job_file, settings))
    assert {sample.caption for sample in images.samples} == {"from tags"}


def test_the_dtype_is_what_the_device_does_best() -> None:
    assert choose_dtype("auto", torch.device("cpu")) is torch.float32
    assert choose_dtype("auto", torch.device("mps")) is torch.float16
    assert choose_dtype("bf16", torch.device("cpu")) is torch.bfloat16
