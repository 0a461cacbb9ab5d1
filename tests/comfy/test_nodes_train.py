"""The trainer node in graphs that ComfyUI itself runs: what it leaves, shows, obeys and refuses."""

import json

import pytest
import torch
from safetensors.torch import load_file, safe_open
from trustopt_test_prompts import builtin, node, training


@pytest.fixture(scope="session", autouse=True)
def builtin_training_nodes(pack_nodes) -> None:
    import trustopt_test_graph

    trustopt_test_graph.load_builtin("nodes_preview_any.py")
    trustopt_test_graph.load_builtin("nodes_train.py")


def sampled(comfyui, model: list, clip: list, prefix: str) -> dict:
    """Return nodes that sample 2 steps with a model of the graph and decode the result."""
    return {
        f"{prefix}1": builtin("CLIPTextEncode", clip=clip, text="emoji cat"),
        f"{prefix}2": builtin("EmptyLatentImage", width=64, height=64, batch_size=1),
        f"{prefix}3": builtin(
            "KSampler",
            model=model,
            positive=[f"{prefix}1", 0],
            negative=[f"{prefix}1", 0],
            latent_image=[f"{prefix}2", 0],
            seed=3,
            steps=2,
            cfg=1.0,
            sampler_name="euler",
            scheduler="normal",
            denoise=1.0,
        ),
        f"{prefix}4": builtin("VAEDecode", samples=[f"{prefix}3", 0], vae=["1", 2]),
        f"{prefix}5": builtin("PreviewImage", images=[f"{prefix}4", 0]),
    }


@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_a_graph_trains_saves_applies_and_samples(comfyui, tmp_path, family) -> None:
    prompt = {
        **training(family),
        **sampled(comfyui, ["1", 0], ["1", 1], "base"),
        **sampled(comfyui, ["5", 1], ["5", 6], "trained"),
        "6": node("SignalPreview", **{"runs.run0": ["5", 2]}, width=512, height=384),
        "7": builtin(
            "LoraModelLoader", model=["1", 0], lora=["5", 0], strength_model=1.0, bypass=False
        ),
        "8": builtin("LossGraphNode", loss=["5", 3], filename_prefix="loss"),
        "9": builtin("SaveLoRA", lora=["5", 0], prefix="loras/builtin"),
        **sampled(comfyui, ["7", 0], ["1", 1], "loaded"),
    }
    ending = comfyui.run(prompt, workflow={"nodes": [], "version": 0.4})
    assert ending == "success", comfyui.error()

    lora, model, signals, losses, path, plot, *_ = comfyui.outputs("5")
    saved = tmp_path / "output" / "loras" / "tiny.safetensors"
    assert path == str(saved)
    assert {k: t.tolist() for k, t in load_file(saved).items()} == {
        k: t.tolist() for k, t in lora.items()
    }
    assert any(t.abs().max() > 0 for k, t in lora.items() if k.endswith("lora_up.weight"))
    with safe_open(saved, "pt") as file:
        metadata = file.metadata()
    assert metadata["ss_network_dim"] == "4"
    assert json.loads(metadata["workflow"])["version"] == 0.4
    assert len(signals) == 6
    assert losses["loss"] == signals.series("loss").tolist()
    assert plot.shape[0] == 1
    assert list((tmp_path / "output" / "loras").glob("builtin*"))

    base, trained, loaded = (
        comfyui.outputs(f"{prefix}4")[0] for prefix in ("base", "trained", "loaded")
    )
    assert not torch.equal(base, trained)
    assert torch.equal(trained, loaded)
    assert not model.injections
    assert any("layers load" in text for node_id, text in comfyui.server.texts if node_id == "5")


def test_the_base_model_samples_the_same_after_training(comfyui) -> None:
    prompt = {**training(), **sampled(comfyui, ["1", 0], ["1", 1], "base")}
    assert comfyui.run(sampled_only(prompt)) == "success"
    before = comfyui.outputs("base4")[0]
    comfyui.run(training())
    again = json.loads(json.dumps(sampled_only(prompt)))
    again["base3"]["inputs"]["sampler_name"] = "heun"
    comfyui.run(again)
    assert comfyui.run(sampled_only(prompt)) == "success"
    assert torch.equal(before, comfyui.outputs("base4")[0])


def sampled_only(prompt: dict) -> dict:
    return {k: v for k, v in prompt.items() if k == "1" or k.startswith("base")}


def test_the_same_job_gives_the_same_file_and_a_new_name_each_time(comfyui, tmp_path) -> None:
    randomness = torch.random.get_rng_state()
    comfyui.run(training())
    assert torch.equal(randomness, torch.random.get_rng_state())
    comfyui.run(training(seed=2))
    comfyui.executor.reset()
    comfyui.run(training())
    loras = tmp_path / "output" / "loras"
    first, second, third = (
        load_file(loras / f"{name}.safetensors") for name in ("tiny", "tiny_2", "tiny_3")
    )
    assert all(torch.equal(first[key], third[key]) for key in first)
    assert not all(torch.equal(first[key], second[key]) for key in first)


def test_progress_reaches_the_browser(comfyui) -> None:
    comfyui.run(training(steps=5))
    events = comfyui.server.events("trustopt.progress")
    assert {event["run_id"] for event in events} == {"tiny"}
    assert {event["node"] for event in events} == {"5"}
    assert events[-1]["status"] == "finished"
    assert events[-1]["step"] == events[-1]["steps"] == 5
    steps = [step for event in events for step in event["columns"].get("step", [])]
    assert steps == [1, 2, 3, 4, 5]  # each once: a chart can append
    last = [event for event in events if "loss" in event][-1]
    assert last["loss"] > 0
    assert last["lr"] > 0
    assert last["memory"]["total"] > last["memory"]["used"] > 0
    json.dumps(events, allow_nan=False)
    texts = [text for node_id, text in comfyui.server.texts if node_id == "5"]
    assert any(text.startswith("encoding images") for text in texts)
    assert any(text.startswith("step 5/5 | loss ") for text in texts)


def test_a_page_without_the_panel_gets_bar_and_plot(comfyui) -> None:
    comfyui.run(training(steps=5))
    bars = [entry for entry in comfyui.server.progress if entry[0] == "5"]
    assert [entry for entry in bars if entry[1:3] == (5, 5)]
    kind, picture, size = next(preview for *_, preview in bars if preview is not None)
    assert (kind, size) == ("JPEG", 512)
    assert picture.size == (512, 320)
    assert len(picture.getcolors(1 << 20)) > 10


# -- stop, keep, resume --------------------------------------------------------------------------


def at_step(comfyui, step: int, action) -> None:
    """Do something when the browser hears of a step."""

    def on_send(event, data) -> None:
        if event == "trustopt.progress" and data["status"] == "training" and data["step"] >= step:
            comfyui.server.on_send = None
            action(data["run_id"])

    comfyui.server.on_send = on_send


def interrupt(_run_id: str) -> None:
    import comfy.model_management

    comfy.model_management.interrupt_current_processing()


def stop_and_keep(run_id: str) -> None:
    own_module("runs").request_stop_and_keep(run_id)


def own_module(name: str):
    """Return a module of the pack's nodes, of the copy that ComfyUI loaded."""
    import sys

    import nodes

    package = nodes.NODE_CLASS_MAPPINGS["TrustOpt_TrainLora"].__module__.rpartition(".")[0]
    return sys.modules[f"{package}.{name}"]


def test_stop_saves_what_was_trained_and_resume_finishes_it(comfyui, tmp_path) -> None:
    comfyui.run(training(steps=40, name="whole"))
    at_step(comfyui, 1, interrupt)
    assert comfyui.run(training(steps=40)) == "interrupted"
    assert comfyui.server.events("trustopt.progress")[-1]["status"] == "interrupted"
    stopped = load_file(tmp_path / "output" / "loras" / "tiny.safetensors")
    assert stopped
    assert list((tmp_path / "output" / "trustopt" / "tiny" / "state").iterdir())
    assert not own_module("runs").active_runs()

    assert comfyui.run(training(steps=40, resume=True)) == "success"
    assert "5" in comfyui.executed()
    whole, finished = (
        load_file(tmp_path / "output" / "loras" / f"{name}.safetensors")
        for name in ("whole", "tiny")
    )
    assert all(torch.equal(whole[key], finished[key]) for key in whole)
    assert len(comfyui.outputs("5")[2]) == 40


def test_stop_does_not_wait_for_the_end_of_a_long_step(comfyui, monkeypatch, tmp_path) -> None:
    host = own_module("bridge.host")
    passes = []

    def counted(*inputs):
        passes.append(inputs)
        if len(passes) == 6:  # the second of step 2's four
            interrupt("")
        return raw_output(*inputs)

    raw_output = host.raw_output
    monkeypatch.setattr(host, "raw_output", counted)
    prompt = training(steps=40)
    prompt["3"]["inputs"]["accumulation"] = 4
    assert comfyui.run(prompt) == "interrupted"
    assert len(passes) == 6
    assert [p.name for p in (tmp_path / "output" / "trustopt" / "tiny" / "state").iterdir()] == [
        "00000001"
    ]


def test_stop_and_keep_ends_well_and_is_not_served_as_complete(comfyui) -> None:
    at_step(comfyui, 1, stop_and_keep)
    assert comfyui.run(training(steps=40)) == "success"
    assert comfyui.server.events("trustopt.progress")[-1]["status"] == "stopped"
    assert 1 <= len(comfyui.outputs("5")[2]) < 40

    comfyui.server.on_send = None
    assert comfyui.run(training(steps=40)) == "success"
    assert "5" in comfyui.executed()
    assert len(comfyui.outputs("5")[2]) == 40

    assert comfyui.run(training(steps=40)) == "success"
    assert "5" not in comfyui.executed()


def test_deleting_an_older_lora_trains_nothing_again(comfyui, tmp_path) -> None:
    comfyui.run(training())
    comfyui.run(training(seed=2))
    (tmp_path / "output" / "loras" / "tiny.safetensors").unlink()
    comfyui.run(training(seed=2))
    assert "5" not in comfyui.executed()


def test_a_deleted_lora_is_trained_again(comfyui, tmp_path) -> None:
    comfyui.run(training())
    comfyui.run(training())
    assert "5" not in comfyui.executed()
    (tmp_path / "output" / "loras" / "tiny.safetensors").unlink()
    comfyui.run(training())
    assert "5" in comfyui.executed()


def test_stopping_an_unknown_run_says_so() -> None:
    assert own_module("runs").request_stop_and_keep("nothing") is False


# -- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a/b", "..", "a\\b", "", ".hidden", "x:y"])
def test_names_that_are_no_file_names_are_refused_before_the_queue(comfyui, name) -> None:
    said = comfyui.check(training(name=name))
    assert "cannot name a file" in said
    assert "no path separators" in said


def test_any_name_may_be_a_name(comfyui, tmp_path) -> None:
    for name in ("auto", "on"):  # words that other widgets mean something by
        assert comfyui.run(training(steps=1, name=name)) == "success", comfyui.error()
        assert (tmp_path / "output" / "loras" / f"{name}.safetensors").exists()


def test_an_unwritable_output_is_refused_before_the_queue(comfyui, tmp_path) -> None:
    (tmp_path / "output" / "trustopt").write_text("a file where a folder must be")
    said = comfyui.check(training())
    assert "cannot be written to" in said


def test_missing_peft_is_one_command(comfyui, monkeypatch) -> None:
    monkeypatch.setattr(own_module("train"), "find_spec", lambda name: None)
    said = comfyui.check(training())
    assert "peft is missing: run" in said
    assert "-m pip install peft" in said


@pytest.mark.parametrize("missing", ["clip", "vae"])
def test_clip_and_vae_that_a_loader_did_not_find_are_named(comfyui, missing, monkeypatch) -> None:
    import nodes

    class Loader:
        """A checkpoint loader whose file holds the network alone."""

        RETURN_TYPES = ("MODEL", "CLIP", "VAE")
        FUNCTION = "load"

        @classmethod
        def INPUT_TYPES(cls) -> dict:  # noqa: N802
            return {"required": {"tiny": ("*",)}}

        def load(self, tiny) -> tuple:
            return tiny, None, None

    monkeypatch.setitem(nodes.NODE_CLASS_MAPPINGS, "BareLoader", Loader)
    prompt = training()
    prompt["bare"] = {"class_type": "BareLoader", "inputs": {"tiny": ["1", 0]}}
    prompt["5"]["inputs"][missing] = ["bare", 1 if missing == "clip" else 2]
    assert comfyui.run(prompt) == "error"
    assert f"{missing.upper()} is missing" in comfyui.error().splitlines()[0]


def test_a_plan_of_another_family_is_refused(comfyui, tmp_path) -> None:
    prompt = training()
    prompt["3"]["inputs"]["family"] = "flux"
    assert comfyui.run(prompt) == "error"
    assert "MODEL is SDXL, but the preset is for FLUX" in comfyui.error().splitlines()[0]
    assert not list((tmp_path / "output" / "trustopt").glob("[!.]*"))


def test_fewer_images_than_the_batch_is_refused(comfyui) -> None:
    prompt = training()
    prompt["3"]["inputs"]["batch_size"] = 500
    assert comfyui.run(prompt) == "error"
    assert "batch" in comfyui.error().splitlines()[0]


# -- adapter, objective, export ------------------------------------------------------------------


def test_adapter_and_objective_reach_the_job(comfyui, tmp_path) -> None:
    prompt = training(steps=2, ema_decay=0.5, validation_fraction=0.2, validate_every=1)
    prompt["6"] = node("Adapter", algorithm="lora", rank=2, layer_regex="attn2.*to_[kv]$")
    prompt["7"] = node("Objective", loss="huber", timesteps="sigmoid", tag_dropout=0.1)
    prompt["5"]["inputs"] |= {"adapter": ["6", 0], "objective": ["7", 0]}
    assert comfyui.run(prompt) == "success", comfyui.error()
    job = json.loads((tmp_path / "output" / "trustopt" / "tiny" / "job.json").read_text())
    assert (job["adapter"]["rank"], job["adapter"]["alpha"]) == (2, 1.0)
    assert job["adapter"]["regex"] == "attn2.*to_[kv]$"
    assert (job["objective"]["loss"], job["objective"]["timesteps"]) == ("huber", "sigmoid")
    assert (job["data"]["tag_dropout"], job["data"]["validation_fraction"]) == (0.1, 0.2)
    assert job["ema_decay"] == 0.5
    lora = comfyui.outputs("5")[0]
    assert lora
    assert all("attn2_to_k" in key or "attn2_to_v" in key for key in lora)


def test_a_lora_is_trained_further(comfyui, tmp_path) -> None:
    comfyui.run(training(steps=3))
    assert comfyui.run(training(steps=3, name="more", start_from="tiny.safetensors")) == "success"
    loras = tmp_path / "output" / "loras"
    first, more = load_file(loras / "tiny.safetensors"), load_file(loras / "more.safetensors")
    assert first.keys() == more.keys()
    key = next(k for k in first if k.endswith("lora_down.weight"))
    moved = (more[key] - first[key]).norm() / first[key].norm()
    assert 0.0 < moved < 0.2  # a new LoRA's first matrix would be an unrelated random one


@pytest.mark.parametrize("file_format", ["kohya", "comfy", "diffusers"])
def test_exports_load_like_the_original(comfyui, tmp_path, file_format) -> None:
    prompt = training("flux", steps=2)
    prompt["6"] = node(
        "SaveLora", lora=["5", 0], path=["5", 4], name="out", file_format=file_format, dtype="fp32"
    )
    for name, source in (("kept", "tiny.safetensors"), ("export", "out.safetensors")):
        loader = builtin(
            "LoraLoaderModelOnly", model=["1", 0], lora_name=source, strength_model=1.0
        )
        prompt[f"{name}0"] = loader
    trained = {k: v for k, v in prompt.items() if k in ("1", "2", "3", "4", "5", "6")}
    assert comfyui.run(trained) == "success", comfyui.error()
    (path,) = comfyui.outputs("6")
    assert path == str(tmp_path / "output" / "loras" / "out.safetensors")
    with safe_open(path, "pt") as file:
        assert file.metadata()["ss_network_dim"] == "4"

    for name in ("kept", "export"):
        prompt |= sampled(comfyui, [f"{name}0", 0], ["1", 1], name)
    assert comfyui.run(prompt) == "success", comfyui.error()
    kept, export = (comfyui.outputs(f"{name}4")[0] for name in ("kept", "export"))
    assert torch.allclose(kept, export, atol=1e-5)


def test_an_export_of_nothing_says_what_to_connect(comfyui) -> None:
    assert comfyui.run({"1": node("SaveLora", name="x", file_format="kohya")}) == "error"
    assert "connect lora or path" in comfyui.error().splitlines()[0]


def test_an_export_reads_only_comfyuis_folders(comfyui, tmp_path) -> None:
    outside = tmp_path / "outside.safetensors"
    outside.write_bytes(b"x")
    prompt = {"1": node("SaveLora", name="x", file_format="kohya", path=str(outside))}
    assert comfyui.run(prompt) == "error"
    assert "not in ComfyUI's output or loras folders" in comfyui.error().splitlines()[0]


def test_a_zero_terminal_snr_v_prediction_model_is_trained_and_sampled_as_one(
    comfyui, tmp_path
) -> None:
    import trustopt_test_graph

    trustopt_test_graph.load_builtin("nodes_model_advanced.py")
    prompt = training(steps=30, samples=["8", 0])
    prompt["7"] = builtin(
        "ModelSamplingDiscrete", model=["1", 0], sampling="v_prediction", zsnr=True
    )
    prompt["8"] = node("Samples", prompts="a cat", steps=2)
    prompt["3"]["inputs"] |= {"model": ["7", 0], "lr": 4e-3, "targets": "full"}
    prompt["5"]["inputs"]["model"] = ["7", 0]
    prompt |= sampled(comfyui, ["7", 0], ["1", 1], "base")
    prompt |= sampled(comfyui, ["5", 1], ["5", 6], "trained")
    prompt["9"] = builtin(
        "LoraModelLoader", model=["7", 0], lora=["5", 0], strength_model=1.0, bypass=False
    )
    prompt |= sampled(comfyui, ["9", 0], ["1", 1], "loaded")
    assert comfyui.run(prompt) == "success", comfyui.error()

    losses = comfyui.outputs("5")[2].series("loss")
    # The weights predict noise: to predict v they have much to learn.
    assert losses[-10:].mean() < 0.9 * losses[:10].mean()
    base, trained, loaded = (
        comfyui.outputs(f"{prefix}4")[0] for prefix in ("base", "trained", "loaded")
    )
    assert not torch.equal(base, trained)
    assert torch.equal(trained, loaded)
    assert comfyui.outputs("5")[7].isfinite().all()
    with safe_open(tmp_path / "output" / "loras" / "tiny.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["modelspec.prediction_type"] == "v"
    assert metadata["ss_zero_terminal_snr"] == "True"
