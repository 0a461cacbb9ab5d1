"""The samples node in graphs that ComfyUI runs: what is made, that training does not notice it."""

import json

import pytest
import torch
from PIL import Image
from trustopt_test_prompts import builtin, node, training
from trustopt_test_sampling import (
    FILLED,
    SETTINGS,
    at_event,
    own_module,
    pixels,
    sampling,
    steps_in,
    weights,
)


def drawn(prompt: dict, model: list, clip: list, name: str, text: str, seed: int) -> dict:
    """Return ComfyUI's own nodes that draw one of the pictures."""
    encode = {
        f"{name}p": builtin("CLIPTextEncode", clip=clip, text=text),
        f"{name}n": builtin("CLIPTextEncode", clip=clip, text="dark"),
    }
    positive = [f"{name}p", 0]
    if prompt["1"]["inputs"]["family"] == "flux":
        encode[f"{name}g"] = builtin("FluxGuidance", conditioning=positive, guidance=3.0)
        positive = [f"{name}g", 0]
    return {
        **encode,
        f"{name}l": builtin("EmptyLatentImage", width=64, height=64, batch_size=1),
        f"{name}s": builtin(
            "KSampler",
            model=model,
            positive=positive,
            negative=[f"{name}n", 0],
            latent_image=[f"{name}l", 0],
            seed=seed,
            denoise=1.0,
            **{k: v for k, v in SETTINGS.items() if k != "guidance"},
        ),
        f"{name}d": builtin("VAEDecode", samples=[f"{name}s", 0], vae=["1", 2]),
        f"{name}o": builtin("SaveImage", images=[f"{name}d", 0], filename_prefix=name),
    }


@pytest.fixture(scope="session", autouse=True)
def builtin_nodes(pack_nodes) -> None:
    import trustopt_test_graph

    trustopt_test_graph.load_builtin("nodes_flux.py")


@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_pictures_are_those_of_comfyuis_own_nodes(comfyui, tmp_path, run_of, family) -> None:
    prompt = sampling(family, steps=5, samples={"every": 2})
    prompt["3"]["inputs"]["lr"] = 0.03
    prompt |= drawn(prompt, ["1", 0], ["1", 1], "base", FILLED[1], 6)
    prompt |= drawn(prompt, ["5", 1], ["5", 6], "trained", FILLED[1], 6)
    prompt["show"] = builtin("PreviewImage", images=["5", 7])
    assert comfyui.run(prompt, workflow={"nodes": [], "version": 0.4}) == "success", comfyui.error()

    folder, output = run_of(), tmp_path / "output"
    names = [f"step_{step:06d}_{n:02d}.png" for step in (0, 2, 4, 5) for n in (1, 2)]
    assert sorted(p.name for p in folder.iterdir()) == ["grid.png", "index.json", *names]
    listed = json.loads((folder / "index.json").read_text())["pictures"]
    assert [(p["file"], p["step"], p["prompt"]) for p in listed] == [
        (name, int(name[5:11]), FILLED[int(name[12:14]) - 1]) for name in names
    ]

    first, last = pixels(folder / names[1]), pixels(folder / names[-1])
    assert (first == pixels(output / "base_00001_.png")).all()
    assert abs(last - pixels(output / "trained_00001_.png")).max() <= 1
    assert abs(last - first).max() > 1

    grid = comfyui.outputs("5")[7]
    assert (255.0 * grid[0].numpy()).round().astype(int).tolist() == pixels(
        folder / "grid.png"
    ).tolist()
    shown = [e["output"]["images"] for e in comfyui.server.events("executed") if e["node"] == "5"]
    assert shown[0][0] == {"filename": "grid.png", "subfolder": "trustopt/tiny/samples",
                           "type": "output"}  # fmt: skip
    with Image.open(folder / names[0]) as image:
        assert json.loads(image.text["prompt"])["6"]["class_type"] == "TrustOpt_Samples"
        assert json.loads(image.text["workflow"])["version"] == 0.4
        own = json.loads(image.text["trustopt_sample"])
    assert (own["step"], own["seed"], own["prompt"], own["cfg"]) == (0, 5, FILLED[0], 2.0)


ALIKE = {
    "sdxl": ("sdxl", {}, {}),
    "flux": ("flux", {}, {}),
    "ema": ("sdxl", {"ema_decay": 0.9}, {}),
    "text encoders": ("sdxl", {}, {"train_text_encoders": "on"}),
    "dropout": ("flux", {}, {"dropout": 0.2}),
}


@pytest.mark.parametrize("kind", ALIKE)
def test_training_is_the_same_bytes_with_and_without(
    comfyui, tmp_path, no_metadata, run_of, kind
) -> None:
    family, train, adapter = ALIKE[kind]
    lora = tmp_path / "output" / "loras" / "tiny.safetensors"
    plain = training(family, steps=4, **train)
    looked_at = sampling(family, steps=4, samples={"every": 1}, **train)
    written = []
    for prompt in (plain, looked_at):
        prompt["7"] = node("Adapter", algorithm="lora", **adapter)
        prompt["5"]["inputs"]["adapter"] = ["7", 0]
        assert comfyui.run(prompt) == "success", comfyui.error()
        written.append(weights(lora))
        lora.unlink()
        run_of().parent.rename(tmp_path / f"run {len(written)}")
    assert written[0] == written[1]
    made = tmp_path / "run 2" / "samples"
    assert len(list(made.glob("step_*.png"))) == 5 * 2

    base = comfyui.outputs("1")[0].model.state_dict()
    fresh = own_module("bridge.tiny").load_tiny(family).model.model.state_dict()
    assert base.keys() == fresh.keys()
    assert all(torch.equal(base[key], fresh[key]) for key in fresh)
    with Image.open(made / "step_000000_01.png") as image:
        assert not image.text  # as the user wants it


@pytest.mark.parametrize(
    ("train", "adapter"), [({"ema_decay": 0.9}, {}), ({}, {"train_text_encoders": "on"})]
)
def test_what_is_sampled_is_what_is_saved(comfyui, tmp_path, run_of, train, adapter) -> None:
    """The moving average, where there is one; with the text encoders as they are trained."""
    prompt = sampling("sdxl", steps=6, **train)
    prompt["3"]["inputs"]["lr"] = 0.03
    prompt["7"] = node("Adapter", algorithm="lora", rank=4, alpha=4.0, **adapter)
    prompt["5"]["inputs"]["adapter"] = ["7", 0]
    prompt |= drawn(prompt, ["5", 1], ["5", 6], "trained", FILLED[0], 5)
    prompt |= drawn(prompt, ["5", 1], ["1", 1], "half", FILLED[0], 5)
    assert comfyui.run(prompt) == "success", comfyui.error()
    last = pixels(run_of() / "step_000006_01.png")
    first = pixels(run_of() / "step_000000_01.png")
    assert abs(last - pixels(tmp_path / "output" / "trained_00001_.png")).max() <= 2
    assert abs(last - first).max() > 8
    if adapter:
        assert abs(last - pixels(tmp_path / "output" / "half_00001_.png")).max() > 2


def test_prompts_are_encoded_once(comfyui, monkeypatch) -> None:
    sampler = own_module("sampler")
    calls = []

    def counted(host, prompts, negative, guidance):
        calls.append([*prompts, negative])
        return encode(host, prompts, negative, guidance)

    encode = sampler.encode_prompts
    monkeypatch.setattr(sampler, "encode_prompts", counted)
    assert comfyui.run(sampling(steps=3, samples={"every": 1})) == "success"
    assert calls == [[*FILLED, "dark"]]


# -- when, and at whose wish ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "steps"),
    [
        ({"every": 0, "before_training": False}, [4]),
        ({"every": -1}, [0, 4]),
        ({"every": 2}, [0, 2, 4]),
    ],
)
def test_pictures_are_made_when_asked_for(comfyui, run_of, samples, steps) -> None:
    assert comfyui.run(sampling(steps=4, samples=samples)) == "success"
    assert steps_in(run_of()) == steps
    job = json.loads((run_of().parent / "job.json").read_text())
    assert job["sample_every"] == (250 if samples["every"] < 0 else samples["every"])


def test_sample_now_makes_pictures_and_changes_nothing(
    comfyui, tmp_path, run_of, no_metadata
) -> None:
    granted, last = [], 40  # many: the browser hears of steps only a few times a second
    at_event(
        comfyui,
        lambda event: event["step"] >= 2,
        lambda run_id: granted.append(own_module("runs").request_wish(run_id, "sample")),
    )
    assert comfyui.run(sampling(steps=last, samples={"every": -1})) == "success"
    assert granted == [True]
    steps = steps_in(run_of())
    assert (steps[0], steps[-1], len(steps)) == (0, last, 3)
    events = comfyui.server.events("trustopt.progress")
    assert all(event["can_sample"] for event in events)
    told = [event["samples"] for event in events if "samples" in event]
    assert [[p["prompt"] for p in pictures] for pictures in told] == [FILLED] * 3
    assert [pictures[0]["step"] for pictures in told] == steps
    assert any(event["sampling"] for event in events)
    assert events[-1]["sampling"] is None

    lora = tmp_path / "output" / "loras" / "tiny.safetensors"
    asked = lora.read_bytes()
    lora.unlink()
    run_of().parent.rename(tmp_path / "asked")
    assert comfyui.run(training(steps=last)) == "success"
    assert lora.read_bytes() == asked


def test_a_page_without_the_panel_sees_the_newest_pictures_below_the_plot(comfyui) -> None:
    assert comfyui.run(sampling(steps=3, samples={"every": 2})) == "success"
    previews = [p for node_id, *_, p in comfyui.server.progress if node_id == "5" and p is not None]
    sizes = [picture.size for _, picture, _ in previews]
    strip = sizes[0][1]  # before step 1 there is no plot
    assert sizes[0] == (512, strip)
    assert sizes[-1] == (512, 320 + strip)
    texts = [text for node_id, text in comfyui.server.texts if node_id == "5"]
    assert "step 2/3 | samples 1/2" in texts


# -- what may be asked for -----------------------------------------------------------------------


def test_no_prompts_are_captions_of_the_set(comfyui, run_of) -> None:
    assert comfyui.run(sampling(steps=1, samples={"prompts": "\n  \n"})) == "success"
    listed = json.loads((run_of() / "index.json").read_text())["pictures"]
    prompts = {picture["prompt"] for picture in listed}
    assert len(prompts) == 2
    assert all(prompt.startswith("emoji") for prompt in prompts)


def test_too_many_prompts_are_refused_before_the_queue(comfyui) -> None:
    many = "\n".join(f"prompt {n}" for n in range(17))
    said = comfyui.check(sampling(samples={"prompts": many}))
    assert "has 17 prompts, at most 16 are allowed" in said
    repeated = "\n".join(["a fox"] * 17)
    assert comfyui.check(sampling(samples={"prompts": repeated})) == ""


@pytest.mark.parametrize(
    ("family", "samples", "said"),
    [
        ("flux", {"width": 72}, "width of 72, FLUX takes multiples of 16: set 64 or 80"),
        ("sdxl", {"height": 5}, "height of 5, SDXL takes multiples of 8: set 8 or 16"),
    ],
)
def test_sizes_the_model_cannot_draw_are_refused(comfyui, tmp_path, family, samples, said) -> None:
    assert comfyui.run(sampling(family, samples=samples)) == "error"
    assert said in comfyui.error().splitlines()[0]
    assert not list((tmp_path / "output" / "trustopt").glob("[!.]*"))


def test_a_trigger_word_alone_needs_one(comfyui) -> None:
    prompt = sampling(samples={"prompts": "[trigger]"})
    prompt["2"]["inputs"]["trigger_word"] = ""
    assert comfyui.run(prompt) == "error"
    assert "[trigger] alone" in comfyui.error().splitlines()[0]


def test_pictures_have_the_size_that_is_set(comfyui, run_of) -> None:
    assert comfyui.run(sampling(steps=1, samples={"width": 48, "height": 96})) == "success"
    assert pixels(run_of() / "step_000001_02.png").shape == (96, 48, 3)


def test_auto_is_each_familys_usual_sampler(comfyui, run_of) -> None:
    auto = {"cfg": -1.0, "sampler_name": "auto", "scheduler": "auto"}
    for family, usual in (
        ("sdxl", (6.0, "dpmpp_2m", "karras")),
        ("flux", (1.0, "euler", "simple")),
    ):
        assert comfyui.run(sampling(family, steps=1, name=family, samples=auto)) == "success"
        with Image.open(run_of(family) / "step_000000_01.png") as image:
            own = json.loads(image.text["trustopt_sample"])
        assert (own["cfg"], own["sampler_name"], own["scheduler"]) == usual


def test_nodes_after_samples_that_are_not_made_do_not_run(comfyui) -> None:
    prompt = training(steps=1)
    prompt["show"] = builtin("PreviewImage", images=["5", 7])
    assert comfyui.run(prompt) == "success", comfyui.error()
    assert not [e for e in comfyui.server.events("executed") if e["node"] == "show"]
