"""The engine's promises, end to end: graphs that ComfyUI itself runs."""

import importlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, safe_open
from trustopt_test_prompts import node, training

import nodes


def pack_module(name: str):
    """Return a module of the pack, of the copy that ComfyUI loaded."""
    package = nodes.NODE_CLASS_MAPPINGS["TrustOpt_TrainLora"].__module__.rpartition(".nodes.")[0]
    return importlib.import_module(f"{package}.{name}")


def pictures(folder: Path, count: int = 5) -> str:
    """Put pictures with captions below ComfyUI's input folder; one is masked by its alpha."""
    place = folder / "input" / "set" / "2_zork toy"
    place.mkdir(parents=True)
    for number in range(count):
        image = Image.new("RGBA", (64 + 16 * (number % 2), 64), (40 * number, 90, 200, 255))
        if number == 0:
            image.paste((10, 10, 10, 0), (0, 0, 32, 64))
        image.save(place / f"{number}.png")
        (place / f"{number}.txt").write_text(f"zork, toy, red ball {number}, on grass")
    return "set"


def with_everything(folder: Path, family: str, **widgets) -> dict:
    """Return a training that uses every option which a default leaves off."""
    prompt = training(family, ema_decay=0.9, validation_fraction=0.3, validate_every=2, **widgets)
    prompt["2"] = node("LoadImageSet", folder=pictures(folder), trigger_word="zork")
    prompt["3"]["inputs"] |= {"accumulation": 2, "scheduler": "cosine", "warmup_steps": 2}
    prompt["6"] = node(
        "Adapter",
        algorithm="lora",
        rank=4,
        dropout=0.1,
        rank_dropout=0.1,
        lora_plus_ratio=4.0,
        max_norm=5.0,
        train_text_encoders="on" if family == "sdxl" else "off",
        layer_rules="attn2|txt_attn: rank=2, alpha=1, lr=0.5",
    )
    prompt["7"] = node(
        "Objective",
        loss="huber",
        timesteps="logit-normal",
        logit_mean=0.2,
        noise_offset=0.05,
        pyramid_levels=2,
        input_perturbation=0.1,
        caption_dropout=0.2,
        tag_dropout=0.2,
        shuffle_tags=True,
        keep_tokens=1,
        random_crop=True,
        class_word="toy thing",
        stratified=False,
        unmasked_weight=0.2,
        **({"weighting": "debiased"} if family == "sdxl" else {"guidance": 1.5}),
    )
    prompt["5"]["inputs"] |= {"adapter": ["6", 0], "objective": ["7", 0]}
    return prompt


def model_hash(path: Path) -> str:
    with safe_open(path, "pt") as file:
        return file.metadata()["sshs_model_hash"]


def at_step(comfyui, step: int, action) -> None:
    """Do something once when the browser hears of a step."""

    def on_send(event, data) -> None:
        if event == "trustopt.progress" and data["status"] == "training" and data["step"] >= step:
            comfyui.server.on_send = None
            action()

    comfyui.server.on_send = on_send


@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_all_options_together_train_stop_and_resume_bit_for_bit(comfyui, tmp_path, family) -> None:
    import comfy.model_management

    straight = with_everything(tmp_path, family, steps=8, name="straight")
    assert comfyui.run(straight) == "success", comfyui.error()
    job = json.loads((tmp_path / "output" / "trustopt" / "straight" / "job.json").read_text())
    assert (job["accumulation"], job["scheduler"], job["ema_decay"]) == (2, "cosine", 0.9)
    assert (job["objective"]["loss"], job["objective"]["stratified"]) == ("huber", False)
    assert (job["data"]["shuffle_tags"], job["data"]["random_crop"]) == (True, True)
    assert job["data"]["class_word"] == "toy thing"
    assert job["adapter"]["lr_scales"] == {"attn2|txt_attn": 0.5}

    signals = comfyui.outputs("5")[2]
    validated = [value for value in signals.series("val/loss").tolist() if value == value]
    assert len(validated) == 4
    assert any(name.startswith("loss_bin/") for name in signals.columns)
    lora = load_file(tmp_path / "output" / "loras" / "straight.safetensors")
    ranks = {
        t.shape[0]
        for key, t in lora.items()
        if "attn2" in key or "txt_attn" in key
        if key.endswith("lora_down.weight")
    }
    assert ranks == {2}
    has_text = [any(key.startswith(f"lora_te{n}_") for key in lora) for n in (1, 2)]
    assert has_text == [family == "sdxl"] * 2

    shutil.rmtree(tmp_path / "input" / "set")
    stopped = with_everything(tmp_path, family, steps=8, name="stopped")
    at_step(comfyui, 3, lambda: comfy.model_management.interrupt_current_processing(True))
    assert comfyui.run(stopped) == "interrupted"
    stopped["5"]["inputs"]["resume"] = True
    assert comfyui.run(stopped) == "success", comfyui.error()
    loras = tmp_path / "output" / "loras"
    assert model_hash(loras / "stopped.safetensors") == model_hash(loras / "straight.safetensors")
    assert comfyui.outputs("5")[2].steps.tolist() == list(range(1, 9))


def test_resuming_with_other_pictures_is_refused_by_name_unless_told(comfyui, tmp_path) -> None:
    prompt = training(steps=3)
    prompt["2"] = node("LoadImageSet", folder=pictures(tmp_path))
    assert comfyui.run(prompt) == "success", comfyui.error()
    place = tmp_path / "input" / "set" / "2_zork toy"
    shutil.copy(place / "1.png", place / "another.png")
    (place / "another.txt").write_text("something else")

    prompt["3"]["inputs"]["steps"] = 6
    prompt["5"]["inputs"]["resume"] = True
    assert comfyui.run(prompt) == "error"
    first = comfyui.error().splitlines()[0]
    assert "data.number of pictures was 5 and is now 6" in first
    assert "choose to continue anyway" in first

    prompt["5"]["inputs"]["resume_anyway"] = True
    assert comfyui.run(prompt) == "success", comfyui.error()
    assert comfyui.outputs("5")[2].steps.tolist() == list(range(1, 7))
    assert [p.name for p in (tmp_path / "output" / "loras").iterdir()] == ["tiny.safetensors"]


def test_a_model_in_fp16_trains_with_a_scaled_loss(comfyui, tmp_path, monkeypatch) -> None:
    class Halved:
        """A loader whose model computes in fp16, as ComfyUI does SDXL on a graphics card."""

        RETURN_TYPES = ("MODEL",)
        FUNCTION = "halve"

        @classmethod
        def INPUT_TYPES(cls) -> dict:  # noqa: N802
            return {"required": {"model": ("MODEL",)}}

        def halve(self, model) -> tuple:
            half = model.clone()
            half.set_model_compute_dtype(torch.float16)
            return (half,)

    monkeypatch.setitem(nodes.NODE_CLASS_MAPPINGS, "Halved", Halved)
    prompt = training(steps=4)
    prompt["half"] = {"class_type": "Halved", "inputs": {"model": ["1", 0]}}
    prompt["5"]["inputs"]["model"] = ["half", 0]
    assert comfyui.run(prompt) == "success", comfyui.error()

    runs = tmp_path / "output" / "trustopt"
    assert json.loads((runs / "tiny" / "result.json").read_text())["skipped"] == 0
    state = next((runs / "tiny" / "state").iterdir())
    saved = pack_module("trustopt.train.tree_file").load_tree(
        state / "run.safetensors", ["loss_scale"]
    )
    assert saved["loss_scale"]["value"] >= 2.0**10
    assert {t.dtype for t in load_file(runs.parent / "loras" / "tiny.safetensors").values()} == {
        torch.float16,
        torch.float32,  # alpha
    }
    full = training(steps=4, name="full")
    assert comfyui.run(full) == "success", comfyui.error()
    half, whole = (
        load_file(runs.parent / "loras" / f"{name}.safetensors") for name in ("tiny", "full")
    )
    ups = [key for key in whole if key.endswith("lora_up.weight")]
    trained = torch.cat([whole[key].flatten() for key in ups])
    error = torch.cat([half[key].float().flatten() for key in ups]) - trained
    assert error.norm() < 0.1 * trained.norm()


def test_what_does_not_fit_is_refused_with_the_remedy_before_any_work(comfyui, tmp_path) -> None:
    host = pack_module("nodes.bridge.host")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host, "device_memory", lambda model: model.model_size() + 2**16)
        assert comfyui.run(training(steps=2)) == "error"
    first, *plan = comfyui.error().splitlines()
    assert first.startswith("this run needs ")
    assert " on cpu, and " in first
    assert any(line.strip().startswith("activations") for line in plan)
    assert not list((tmp_path / "output" / "trustopt").glob("[!.]*"))
    assert not list((tmp_path / "output" / "trustopt").rglob("*.safetensors"))


def test_the_plan_and_what_was_taken_stand_beside_each_other(comfyui, tmp_path, caplog) -> None:
    with caplog.at_level("INFO", "trustopt"):
        assert comfyui.run(training(steps=2)) == "success", comfyui.error()
    told = "\n".join(caplog.messages)
    assert told.index("memory plan for cpu (free for this: ") < told.index("were planned")
    assert "checkpointing is off: everything fits without it" in told
    assert "bucket      aspect  images" in told
    result = json.loads((tmp_path / "output" / "trustopt" / "tiny" / "result.json").read_text())
    memory = result["memory"]
    assert memory["growth"] == memory["gradients"] + memory["optimizer"] + memory["activations"]
    assert memory["grown"] is None or memory["grown"] >= 0


@pytest.mark.parametrize("word", ["on", "off"])
def test_checkpointing_is_what_the_widget_says(comfyui, caplog, word) -> None:
    with caplog.at_level("INFO", "trustopt"):
        assert comfyui.run(training(steps=1, checkpointing=word)) == "success", comfyui.error()
    assert f"checkpointing is {word}: as the job says" in "\n".join(caplog.messages)


def test_a_second_run_encodes_nothing(comfyui, monkeypatch) -> None:
    import comfy.sd

    assert comfyui.run(training(steps=2)) == "success", comfyui.error()
    calls = []
    for kind, method in ((comfy.sd.VAE, "encode"), (comfy.sd.CLIP, "encode_from_tokens")):
        monkeypatch.setattr(kind, method, lambda *_, name=method, **__: calls.append(name))
    assert comfyui.run(training(steps=3, seed=5)) == "success", comfyui.error()
    assert calls == []
