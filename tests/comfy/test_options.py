"""Every option of pictures, captions and loss: has a widget, reaches the job, and trains."""

import importlib
import json
from dataclasses import fields

import pytest
from PIL import Image
from trustopt_pack.trustopt.config import DataConfig, ObjectiveConfig
from trustopt_test_prompts import node, show, training

import nodes

OTHER_VALUES = {
    "loss": "huber", "huber_c": 0.2, "weighting": "debiased", "min_snr_gamma": 3.0,
    "timesteps": "logit-normal", "logit_mean": 0.5, "logit_std": 2.0, "shift": 2.0,
    "stratified": False, "noise_offset": 0.1, "pyramid_levels": 3, "pyramid_discount": 0.5,
    "input_perturbation": 0.2, "guidance": 2.0, "masked": False, "unmasked_weight": 0.5,
    "resolution": 512, "extra_resolutions": "768, 384", "bucket_step": 32, "upscale": False,
    "flip": "on", "random_crop": True, "shuffle_tags": True, "keep_tokens": 2,
    "caption_dropout": 0.3, "tag_dropout": 0.4, "caption_variants": 4, "class_word": "animal",
    "validation_fraction": 0.25, "regularisation_weight": 0.5,
}  # fmt: skip
"""Of each option another value than its default, as its widget sets it."""


@pytest.fixture(scope="module", autouse=True)
def builtin_preview_node(pack_nodes) -> None:
    import trustopt_test_graph

    trustopt_test_graph.load_builtin("nodes_preview_any.py")


def own_module(name: str):
    """Return a module of the pack's nodes, of the copy that ComfyUI loaded."""
    package = nodes.NODE_CLASS_MAPPINGS["TrustOpt_Preset"].__module__.rpartition(".")[0]
    return importlib.import_module(f"{package}.{name}")


def values_for(name: str, *, without: dict | None = None) -> dict:
    """Return the values that a node has widgets for."""
    groups = nodes.NODE_CLASS_MAPPINGS[f"TrustOpt_{name}"].INPUT_TYPES()
    widgets = {**groups.get("required", {}), **groups.get("optional", {})}
    return {k: v for k, v in OTHER_VALUES.items() if k in widgets and k not in (without or {})}


def write_pictures(folder, count: int, side: int = 64) -> None:
    folder.mkdir(parents=True)
    for index in range(count):
        Image.new("RGB", (side, side), (30 * index, 90, 200)).save(folder / f"p{index}.png")
        (folder / f"p{index}.txt").write_text(f"a thing, number {index}")


def test_every_option_has_a_widget_and_reaches_the_job(comfyui, tmp_path) -> None:
    options = [field.name for kind in (DataConfig, ObjectiveConfig) for field in fields(kind)]
    assert set(OTHER_VALUES) == set(options)
    objective, train = values_for("Objective"), values_for("TrainLora")
    preset = values_for("Preset", without=objective)
    assert set(objective) | set(preset) | set(train) == set(options)

    write_pictures(tmp_path / "input" / "things", 8)
    prompt = {
        "1": node("LoadImageSet", folder="things"),
        "2": node("Preset", image_set=["1", 0], family="flux", **preset),
        "3": node("Objective", **objective),
        "4": show(["2", 1]),
        "5": show(["3", 0]),
    }
    assert comfyui.run(prompt) == "success", comfyui.error()
    job = own_module("job").build_job(
        comfyui.outputs("2")[0],
        own_module("training").OptimizerConfig(name="adamw"),
        None,
        comfyui.outputs("3")[0],
        name="x",
        seed=0,
        **train,
    )
    reached = {**vars(job.data), **vars(job.objective)}
    assert reached == {**OTHER_VALUES, "flip": True, "extra_resolutions": (768, 384)}


@pytest.mark.parametrize("text", ["768; 512", "large", "-64", "8", "512.5"])
def test_resolutions_that_are_none_are_quoted(comfyui, text) -> None:
    prompt = {"1": node("Objective", loss="mse", extra_resolutions=text), "2": show(["1", 0])}
    said = comfyui.check(prompt)
    assert "must be" in said
    assert text in said


def test_several_resolutions_and_regularisation_pictures_are_trained_on(comfyui, tmp_path) -> None:
    write_pictures(tmp_path / "input" / "others", 3)
    prompt = training(steps=8, regularisation=["6", 0], objective=["7", 0])
    prompt["6"] = node("LoadImageSet", folder="others", trigger_word="never trained")
    prompt["7"] = node(
        "Objective", loss="mse", extra_resolutions="48", regularisation_weight=0.5, upscale=False
    )
    assert comfyui.run(prompt) == "success", comfyui.error()
    run = tmp_path / "output" / "trustopt" / "tiny"
    job = json.loads((run / "job.json").read_text())
    data = job["data"]
    assert data["extra_resolutions"] == [48]
    assert (data["regularisation_weight"], data["upscale"]) == (0.5, False)
    captions = read_captions(run.parent / ".cache" / "prompts")
    assert {f"a thing, number {index}" for index in range(3)} <= captions
    assert not any("never trained" in caption for caption in captions)
    latents = read_latent_sizes(run.parent / ".cache" / "latents")
    assert len(latents) == 2


def read_captions(folder) -> set[str]:
    """Return the captions whose encodings a run has cached."""
    from safetensors import safe_open

    found = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            found.add(json.loads(file.metadata()["trustopt"])["caption"])
    return found


def read_latent_sizes(folder) -> set[tuple[int, ...]]:
    """Return the sizes of the pictures whose encodings a run has cached."""
    from safetensors.torch import load_file

    return {tuple(load_file(path)["mean"].shape[-2:]) for path in folder.glob("*.safetensors")}
