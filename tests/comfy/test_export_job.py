"""Export Job: what the graph trains, a job file trains as well, without ComfyUI."""

import copy
import errno
import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from trustopt_pack.nodes.bridge.host import ComfyHost
from trustopt_pack.nodes.bridge.job_model import model_table
from trustopt_pack.nodes.bridge.tiny import load_tiny
from trustopt_pack.trustopt.cli.job_file import read_job_file
from trustopt_pack.trustopt.cli.main import main
from trustopt_test_prompts import EXAMPLE, builtin, node, training

import nodes

BOUND = 1e-5
"""Relative difference (L2) of a LoRA trained in ComfyUI and one trained in diffusers, float32."""


def exporting(family: str = "sdxl", **inputs) -> dict:
    """Return a training with an export beside it: node 6 exports what node 5 trains."""
    prompt = training(family)
    shared = {k: v for k, v in prompt["5"]["inputs"].items() if k != "name"}
    prompt["6"] = node("ExportJob", **{**shared, "name": "tiny_job", **inputs})
    return prompt


def only_export(prompt: dict) -> dict:
    return {key: value for key, value in prompt.items() if key != "5"}


def job_of(comfyui) -> Path:
    """Return the job file that node 6 wrote."""
    return Path(comfyui.outputs("6")[0])


def error_between(actual: dict, expected: dict) -> float:
    """Return the relative difference of two LoRAs' tensors, all in one."""
    assert actual.keys() == expected.keys()
    ours, theirs = (
        torch.cat([tensors[key].float().flatten() for key in sorted(tensors)])
        for tensors in (actual, expected)
    )
    return float((ours - theirs).norm() / theirs.norm())


@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_a_job_trains_the_lora_that_the_graph_trains(comfyui, tmp_path, family) -> None:
    assert comfyui.run(exporting(family)) == "success", comfyui.error()
    job = job_of(comfyui)
    assert job == tmp_path / "output" / "trustopt_jobs" / "tiny_job" / "job.toml"
    assert main(["train", str(job)]) == 0
    headless = load_file(job.parent / "loras" / "tiny_job.safetensors")
    graph = load_file(tmp_path / "output" / "loras" / "tiny.safetensors")
    assert any(t.abs().max() > 0 for key, t in graph.items() if key.endswith("lora_up.weight"))
    assert error_between(headless, graph) < BOUND


def test_everything_that_was_set_in_the_graph_is_in_the_job(comfyui, tmp_path) -> None:
    write_folder(tmp_path / "input" / "mixed")
    write_folder(tmp_path / "input" / "others", count=2)
    settings = {
        "save_every": 3,
        "keep_last": 5,
        "checkpointing": "on",
        "max_grad_norm": 0.5,
        "ema_decay": 0.9,
        "save_dtype": "bf16",
        "regularisation": ["8", 0],
        "adapter": ["9", 0],
        "objective": ["10", 0],
        "samples": ["11", 0],
    }
    prompt = exporting(**settings)
    prompt["5"]["inputs"] |= settings
    prompt["2"] = node("LoadImageSet", folder="mixed", trigger_word="zork", repeats=2)
    prompt["8"] = node("LoadImageSet", folder="others")
    prompt["9"] = node("Adapter", algorithm="lokr", rank=2, layer_rules="attn2: rank=4, lr=0.5")
    prompt["10"] = node(
        "Objective",
        loss="huber",
        weighting="debiased",
        min_snr_gamma=-1,
        timesteps="logit-normal",
        caption_dropout=0.1,
        noise_offset=0.02,
        masked=True,
        unmasked_weight=0.2,
        guidance=1.0,
        extra_resolutions="48",
        shuffle_tags=True,
    )
    prompt["11"] = node(
        "Samples", prompts="[trigger] at sea\na house", steps=2, every=3, negative="blurry", seed=4
    )
    assert comfyui.run(prompt) == "success", comfyui.error()
    job = job_of(comfyui)
    file = read_job_file(job)
    assert file.training.keep_last == 5
    assert dict(file.samples.__dict__)["prompts"] == ["zork at sea", "a house"]
    assert file.plan["sample_every"] == 3
    texts = [text for node_id, text in comfyui.server.texts if node_id == "6"]
    assert any("without the negative prompt 'blurry'" in text for text in texts)
    assert main(["train", str(job)]) == 0
    headless = load_file(job.parent / "loras" / "tiny_job.safetensors")
    graph = load_file(tmp_path / "output" / "loras" / "tiny.safetensors")
    assert error_between(headless, graph) < 2**-8  # of bf16, which both are rounded to
    asked = [
        json.loads((folder / "job.json").read_text())
        for folder in (tmp_path / "output" / "trustopt" / "tiny", job.parent / "runs" / "tiny_job")
    ]
    for job_json in asked:
        del job_json["name"], job_json["fingerprint"]
    assert asked[0] == asked[1]


def write_folder(folder: Path, count: int = 3) -> None:
    """Write pictures in the root and in a kohya folder, some with masks, one without caption."""
    repeated = folder / "2_blue thing"
    repeated.mkdir(parents=True)
    for index in range(count):
        colour = (90 * index, 40, 200)
        Image.new("RGB", (64, 64), colour).save(folder / f"p{index}.png")
        (folder / f"p{index}.txt").write_text(f"a square, number {index}, of {folder.name}")
        Image.new("RGB", (64, 64), colour[::-1]).save(repeated / f"q{index}.webp", lossless=True)
    Image.new("L", (64, 64), 200).save(folder / "p0-masklabel.png")
    clear = Image.new("RGBA", (64, 64), (0, 200, 0, 255))
    clear.putpixel((3, 3), (0, 200, 0, 0))
    clear.save(folder / "clear.png")


@pytest.mark.parametrize("copy_images", [True, False])
def test_a_folder_is_copied_or_named(comfyui, tmp_path, copy_images) -> None:
    pictures = tmp_path / "input" / "mixed"
    write_folder(pictures)
    (pictures / "metadata.jsonl").write_text('{"file_name": "clear.png", "text": "a green one"}')
    prompt = only_export(exporting(copy_images=copy_images))
    prompt["2"] = node("LoadImageSet", folder="mixed", trigger_word="zork")
    assert comfyui.run(prompt) == "success", comfyui.error()
    job = job_of(comfyui)
    folder = read_job_file(job).locate(read_job_file(job).images.folder)
    assert folder == (job.parent / "images" if copy_images else pictures)
    assert (job.parent / "images").is_dir() == copy_images
    listed = json.loads((job.parent / "manifest.json").read_text())
    assert [entry["name"] for entry in listed["pictures"]] == [
        *("clear", "p0", "p1", "p2"),
        *(f"2_blue thing/q{index}" for index in range(3)),
    ]
    assert listed["pictures"][0]["caption"] == "a green one"
    assert [entry["repeats"] for entry in listed["pictures"]] == [1] * 4 + [2] * 3
    assert listed["pictures"][0]["mask"] == "alpha"
    assert len(listed["pictures"][1]["mask"]) == 64

    assert main(["train", str(job), "--dry-run"]) == 0
    (folder / "p1.txt").write_text("something else")
    assert main(["train", str(job), "--dry-run"]) == 2


def test_a_manifest_names_what_has_changed(comfyui, tmp_path, capsys) -> None:
    write_folder(tmp_path / "input" / "mixed")
    prompt = only_export(exporting())
    prompt["2"] = node("LoadImageSet", folder="mixed")
    assert comfyui.run(prompt) == "success", comfyui.error()
    job = job_of(comfyui)
    Image.new("RGB", (64, 64), (1, 2, 3)).save(job.parent / "images" / "p2.png")
    assert main(["train", str(job)]) == 2
    first = capsys.readouterr().err.splitlines()[0]
    assert "p2 has another content than in manifest.json" in first
    assert "remove manifest from [images]" in first


def test_pictures_of_the_graph_are_written(comfyui, tmp_path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    for index, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / "input" / f"g{index}.png")
    prompt = only_export(exporting())
    for index in range(2):
        prompt[f"load{index}"] = builtin("LoadImage", image=f"g{index}.png")
    prompt["both"] = builtin("ImageBatch", image1=["load0", 0], image2=["load1", 0])
    prompt["2"] = node(
        "ImageSetFromImages",
        images=["both", 0],
        captions="one\ntwo",
        name="../odd: name",
        repeats=3,
    )
    assert comfyui.run(prompt) == "success", comfyui.error()
    job = job_of(comfyui)
    written = sorted(path.name for path in (job.parent / "images").iterdir())
    assert written == ["0001.png", "0001.txt", "0002.png", "0002.txt"]
    with Image.open(job.parent / "images" / "0002.png") as image:
        assert np.array_equal(np.asarray(image), pictures[1])
    assert read_job_file(job).images.repeats == 3

    named = copy.deepcopy(prompt)
    named["6"]["inputs"]["copy_images"] = False
    assert comfyui.run(named) == "error"
    assert "turn copy_images on" in comfyui.error()
    assert not (tmp_path / "output" / "trustopt_jobs" / "tiny_job_2").exists()


def test_a_taken_name_gets_a_number_and_a_bad_one_is_refused(comfyui, tmp_path) -> None:
    prompt = only_export(exporting())
    assert comfyui.run(prompt) == "success", comfyui.error()
    again = copy.deepcopy(prompt)
    again["6"]["inputs"]["seed"] = 2
    assert comfyui.run(again) == "success", comfyui.error()
    assert job_of(comfyui).parent == tmp_path / "output" / "trustopt_jobs" / "tiny_job_2"
    assert "cannot name a file" in comfyui.check(only_export(exporting(name="../up")))


def test_changes_that_no_file_holds_are_refused(comfyui) -> None:
    prompt = only_export(exporting())
    prompt["7"] = builtin(
        "ModelSamplingDiscrete", model=["1", 0], sampling="v_prediction", zsnr=True
    )
    prompt["6"]["inputs"]["model"] = ["7", 0]
    import trustopt_test_graph

    trustopt_test_graph.load_builtin("nodes_model_advanced.py")
    assert comfyui.run(prompt) == "error"
    assert "MODEL carries sampling settings or replaced parts" in comfyui.error()

    prompt = only_export(exporting())
    prompt["7"] = builtin("CLIPSetLastLayer", clip=["1", 1], stop_at_clip_layer=-3)
    prompt["6"]["inputs"]["clip"] = ["7", 0]
    assert comfyui.run(prompt) == "error"
    assert "CLIP stops at layer -3" in comfyui.error()


@pytest.fixture
def loaded(tmp_path):
    """Return the tiny SDXL as if a checkpoint loader had read it from a file."""
    with torch.inference_mode(True):
        tiny = load_tiny("sdxl")
    checkpoint = tmp_path / "base.safetensors"
    checkpoint.write_bytes(b"")
    for patcher in (tiny.model, tiny.clip.patcher, tiny.vae.patcher):
        patcher.cached_patcher_init = (None, (str(checkpoint), None, {}))
    return SimpleNamespace(
        model=tiny.model, clip=tiny.clip, vae=tiny.vae, checkpoint=checkpoint, folder=tmp_path
    )


def table(loaded) -> dict:
    host = ComfyHost(loaded.model, loaded.clip, loaded.vae)
    return model_table(host, loaded.model, loaded.clip, loaded.vae)


def test_a_checkpoint_is_named_with_the_files_it_lacks(loaded) -> None:
    found = table(loaded)
    assert found["path"] == str(loaded.checkpoint)
    assert "files" not in found
    assert (found["family"], found["dtype"]) == ("sdxl", "fp32")
    assert (Path(found["tokenizers"]) / "sd1_tokenizer").is_dir()
    encoders = [loaded.folder / f"{name}.safetensors" for name in ("clip_l", "clip_g")]
    vae = loaded.folder / "vae.safetensors"
    for path in (*encoders, vae):
        path.write_bytes(b"")
    loaded.clip.patcher.cached_patcher_init = (None, ([str(path) for path in encoders], None))
    loaded.vae.patcher.cached_patcher_init = (None, (str(vae), None, None))
    assert table(loaded)["files"] == [str(path) for path in (*encoders, vae)]


def test_what_was_loaded_from_nothing_or_from_another_format_is_named(loaded) -> None:
    loaded.vae.patcher.cached_patcher_init = None
    with pytest.raises(ValueError, match="VAE comes from a node that names no file"):
        table(loaded)
    other = loaded.folder / "base.ckpt"
    other.write_bytes(b"")
    loaded.model.cached_patcher_init = (None, (str(other),))
    with pytest.raises(ValueError, match=r"MODEL was loaded from base\.ckpt"):
        table(loaded)


def test_a_lora_on_the_model_is_refused(loaded) -> None:
    clone = loaded.model.clone()
    key = next(iter(clone.model.state_dict()))
    weight = clone.model.state_dict()[key]
    clone.add_patches({key: (torch.zeros_like(weight),)}, 1.0)
    host = ComfyHost(clone, loaded.clip, loaded.vae)
    with pytest.raises(ValueError, match="MODEL carries LoRAs or other weight patches"):
        model_table(host, clone, loaded.clip, loaded.vae)


def test_the_example_set_can_be_exported(comfyui) -> None:
    prompt = only_export(exporting(copy_images=False))
    assert prompt["2"]["inputs"]["folder"] == EXAMPLE
    assert comfyui.run(prompt) == "success", comfyui.error()
    assert main(["train", str(job_of(comfyui)), "--dry-run"]) == 0


def test_a_full_disk_is_named_and_nothing_is_left(comfyui, tmp_path, monkeypatch) -> None:
    package = nodes.NODE_CLASS_MAPPINGS["TrustOpt_ExportJob"].__module__.rpartition(".")[0]
    module = importlib.import_module(f"{package}.job_export")

    def write(samples, folder) -> None:
        folder.mkdir(parents=True)
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / "01.png"))

    monkeypatch.setattr(module, "write_pictures", write)
    assert comfyui.run(only_export(exporting())) == "error"
    assert "01.png (No space left on device). Free disk space" in comfyui.error()
    assert not list((tmp_path / "output" / "trustopt_jobs").iterdir())


def test_a_lora_may_be_called_auto(comfyui) -> None:
    assert comfyui.run(only_export(exporting(name="auto"))) == "success", comfyui.error()
    assert job_of(comfyui).parent.name == "auto"
