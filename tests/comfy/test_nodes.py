"""Every node but the trainer, in graphs that ComfyUI itself validates and runs."""

import numpy as np
import pytest
from PIL import Image
from trustopt_test_prompts import EXAMPLE, builtin, node, show

import nodes

IDS = {
    "TrustOpt_LoadImageSet",
    "TrustOpt_ImageSetFromImages",
    "TrustOpt_ContactSheet",
    "TrustOpt_Preset",
    "TrustOpt_Optimizer",
    "TrustOpt_Adapter",
    "TrustOpt_Objective",
    "TrustOpt_Samples",
    "TrustOpt_TrainLora",
    "TrustOpt_SaveLora",
    "TrustOpt_ExportJob",
    "TrustOpt_SignalPreview",
    "TrustOpt_InspectLora",
    "TrustOpt_TinyModel",
}


@pytest.fixture(scope="session", autouse=True)
def preview_any(pack_nodes) -> None:
    import trustopt_test_graph

    trustopt_test_graph.load_builtin("nodes_preview_any.py")


def write_pictures(folder, count: int = 3, size: tuple[int, int] = (64, 48)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        colour = (40 * index, 90, 200)
        Image.new("RGB", size, colour).save(folder / f"p{index}.png")
        (folder / f"p{index}.txt").write_text(f"a picture, number {index}")


# -- schemas -------------------------------------------------------------------------------------


def test_the_pack_offers_its_nodes(pack_nodes) -> None:
    assert pack_nodes == IDS


@pytest.mark.parametrize("node_id", sorted(IDS))
def test_every_node_is_explained(pack_nodes, node_id) -> None:
    info = nodes.NODE_CLASS_MAPPINGS[node_id].GET_NODE_INFO_V1()
    assert info["category"] == "model/training/TrustOpt"
    assert len(info["description"]) > 30
    assert len(info["search_aliases"]) >= 3
    assert all(info["output_tooltips"])
    for group in ("required", "optional"):
        for name, (kind, spec) in info["input"].get(group, {}).items():
            assert spec.get("tooltip"), name
            for option in spec.get("options", []) if kind.startswith("COMFY_DYNAMICCOMBO") else []:
                for inner, (_, inner_spec) in option["inputs"].get("required", {}).items():
                    assert inner_spec.get("tooltip"), (option["key"], inner)


# -- image sets ----------------------------------------------------------------------------------


def test_folders_with_pictures_are_offered(comfyui, tmp_path) -> None:
    write_pictures(tmp_path / "input" / "cats")
    write_pictures(tmp_path / "input" / "sets" / "dogs" / "10_dog")
    (tmp_path / "input" / "empty").mkdir()
    write_pictures(tmp_path / "input" / ".hidden")
    write_pictures(tmp_path / "elsewhere")
    (tmp_path / "input" / "link").symlink_to(tmp_path / "elsewhere")

    spec = nodes.NODE_CLASS_MAPPINGS["TrustOpt_LoadImageSet"].INPUT_TYPES()
    assert spec["required"]["folder"][1]["options"] == [
        "cats",
        "sets/dogs",
        "sets/dogs/10_dog",
        EXAMPLE,
    ]


def test_a_folder_becomes_an_image_set(comfyui, tmp_path) -> None:
    write_pictures(tmp_path / "input" / "cats")
    (tmp_path / "input" / "cats" / "broken.png").write_bytes(b"")
    prompt = {
        "1": node("LoadImageSet", folder="cats", trigger_word="zxq"),
        "2": show(["1", 3]),
    }
    assert comfyui.run(prompt) == "success"

    images, count, sheet, report = comfyui.outputs("1")
    assert count == 3
    assert images.trigger_word == "zxq"
    assert [sample.caption for sample in images.samples][1] == "a picture, number 1"
    assert sheet.ndim == 4
    assert sheet.shape[0] == 1
    assert sheet.shape[-1] == 3
    assert float(sheet.min()) >= 0.0
    assert float(sheet.max()) <= 1.0
    assert "broken.png" in report
    assert "empty" in report
    assert any(n == "1" and t.split() == report.split() for n, t in comfyui.server.texts)


def test_the_folder_is_read_again_only_when_it_changes(comfyui, tmp_path) -> None:
    write_pictures(tmp_path / "input" / "cats")
    prompt = {"1": node("LoadImageSet", folder="cats"), "2": show(["1", 1])}
    comfyui.run(prompt)
    comfyui.run(prompt)
    assert comfyui.executed() == set()

    (tmp_path / "input" / "cats" / "p0.txt").write_text("another caption")
    comfyui.run(prompt)
    assert "1" in comfyui.executed()


@pytest.mark.parametrize("folder", ["../secret", "/etc", "link", "a/../../secret", "C:\\secret"])
def test_folders_outside_input_are_refused(comfyui, tmp_path, folder) -> None:
    write_pictures(tmp_path / "secret")
    (tmp_path / "input" / "link").symlink_to(tmp_path / "secret")
    prompt = {"1": node("LoadImageSet", folder=folder), "2": show(["1", 1])}
    said = comfyui.check(prompt)
    assert "leaves ComfyUI's input folder" in said or "does not exist" in said
    assert "does not exist" not in said or folder.startswith("C:")


@pytest.mark.parametrize("folder", ["nowhere", "", "  "])
def test_a_missing_folder_is_refused_before_the_queue(comfyui, folder) -> None:
    said = comfyui.check({"1": node("LoadImageSet", folder=folder), "2": show(["1", 1])})
    assert "does not exist" in said or "no folder of images is chosen" in said
    assert "press R" in said


def test_an_empty_folder_says_what_was_skipped(comfyui, tmp_path) -> None:
    (tmp_path / "input" / "none").mkdir()
    (tmp_path / "input" / "none" / "clip.mp4").write_bytes(b"x")
    assert comfyui.run({"1": node("LoadImageSet", folder="none"), "2": show(["1", 1])}) == "error"
    assert "holds no usable image" in comfyui.error().splitlines()[0]
    assert "clip.mp4" in comfyui.error()


def test_the_example_set_is_always_there(comfyui) -> None:
    prompt = {"1": node("LoadImageSet", folder=EXAMPLE), "2": show(["1", 3])}
    assert comfyui.run(prompt) == "success"
    images, count, _, report = comfyui.outputs("1")
    assert count >= 8
    assert all(sample.caption for sample in images.samples)
    assert "skipped" not in report


def test_pictures_of_the_graph_become_an_image_set(comfyui) -> None:
    prompt = {
        "1": builtin("EmptyImage", width=64, height=48, batch_size=2, color=255),
        "2": node(
            "ImageSetFromImages", images=["1", 0], captions="one\ntwo", trigger_word="zxq", name="s"
        ),
        "3": show(["2", 3]),
    }
    assert comfyui.run(prompt) == "success"
    images, count, _, _ = comfyui.outputs("2")
    assert count == 2
    assert [sample.caption for sample in images.samples] == ["one", "two"]
    assert [(sample.width, sample.height) for sample in images.samples] == [(64, 48)] * 2
    assert images.trigger_word == "zxq"
    assert np.asarray(images.samples[0].source)[0, 0].tolist() == [0, 0, 255]


@pytest.mark.parametrize(
    ("captions", "expected"), [("", ["", ""]), ("for all", ["for all"] * 2), ("a\nb", ["a", "b"])]
)
def test_captions_by_line_or_one_for_all(comfyui, captions, expected) -> None:
    prompt = {
        "1": builtin("EmptyImage", width=64, height=64, batch_size=2, color=0),
        "2": node("ImageSetFromImages", images=["1", 0], captions=captions),
        "3": show(["2", 1]),
    }
    assert comfyui.run(prompt) == "success"
    assert [sample.caption for sample in comfyui.outputs("2")[0].samples] == expected


# -- preset --------------------------------------------------------------------------------------


def plan_of(comfyui, tmp_path, count: int = 3, **values):
    write_pictures(tmp_path / "input" / "cats", count)
    prompt = {
        "1": node("LoadImageSet", folder="cats"),
        "2": node("Preset", image_set=["1", 0], **values),
        "3": show(["2", 1]),
    }
    ending = comfyui.run(prompt)
    return comfyui.outputs("2") if ending == "success" else comfyui.error()


def test_the_preset_needs_no_value(comfyui, tmp_path) -> None:
    plan, summary = plan_of(comfyui, tmp_path, count=20, family="flux")
    assert (plan.steps, plan.lr, plan.rank, plan.alpha) == (2000, 2.5e-4, 16, 8.0)
    assert plan.warmup_steps == 400
    assert plan.overridden == frozenset()
    assert "preset B" in summary


def test_minus_one_and_auto_are_no_values_but_zero_is(comfyui, tmp_path) -> None:
    plan, _ = plan_of(
        comfyui, tmp_path, family="sdxl", steps=-1, lr=-1.0, flip="auto", min_snr_gamma=0.0,
        save_every=0, warmup_steps=0, scheduler="auto",
    )  # fmt: skip
    assert plan.overridden == {"min_snr_gamma", "save_every", "warmup_steps"}
    assert (plan.min_snr_gamma, plan.save_every, plan.warmup_steps) == (0.0, 0, 0)


def test_what_the_user_sets_is_kept_even_if_it_is_the_default(comfyui, tmp_path) -> None:
    plan, summary = plan_of(
        comfyui, tmp_path, family="flux", steps=1500, flip="on", targets="attention", rank=32
    )
    assert plan.overridden == {"steps", "flip", "targets", "rank"}
    assert (plan.steps, plan.flip, plan.targets, plan.rank, plan.alpha) == (
        1500, True, "attention", 32, 16.0,
    )  # fmt: skip
    assert "* steps" in summary


def test_the_preset_warns_of_what_it_sees(comfyui, tmp_path) -> None:
    plan, summary = plan_of(comfyui, tmp_path, family="sdxl")
    assert any("Few images (3)" in warning for warning in plan.warnings)
    assert any("Smaller than the training resolution" in warning for warning in plan.warnings)
    assert "Warning: Few images (3)" in summary


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"family": "auto"}, "family is auto and no model is connected"),
        ({"family": "sdxl", "rank": 0}, "rank must be a whole number of at least 1, got 0"),
        ({"family": "sdxl", "lr": 0.0}, "lr must be"),
        ({"family": "flux", "train_text_encoders": "on"}, "train_text_encoders is for SDXL"),
        ({"family": "sdxl", "steps": 10, "epochs": 40}, "disagree"),
    ],
)
def test_bad_presets_say_what_to_do(comfyui, tmp_path, values, said) -> None:
    assert said in plan_of(comfyui, tmp_path, **values).splitlines()[0]


# -- optimizer, adapter, objective ---------------------------------------------------------------


def value_of(comfyui, name: str, **inputs):
    assert comfyui.run({"1": node(name, **inputs), "2": show(["1", 0])}) == "success"
    return comfyui.outputs("1")[0]


def optimizer_options() -> list[dict]:
    spec = nodes.NODE_CLASS_MAPPINGS["TrustOpt_Optimizer"].INPUT_TYPES()
    return spec["required"]["optimizer"][1]["options"]


def defaults_of(option: dict) -> dict:
    inputs = {**option["inputs"].get("required", {}), **option["inputs"].get("optional", {})}
    return {f"optimizer.{name}": spec["default"] for name, (_, spec) in inputs.items()}


def test_every_optimizer_runs_with_its_defaults_or_names_its_package(comfyui) -> None:
    options = optimizer_options()
    assert next(option["key"] for option in options) == "autotrustgo"
    assert {"emonavi", "emofact", "emolynx", "adamw", "lion"} <= {o["key"] for o in options}
    for option in options:
        prompt = {
            "1": node("Optimizer", optimizer=option["key"], **defaults_of(option)),
            "2": show(["1", 0]),
        }
        said = comfyui.check(prompt)
        if said:
            assert "needs the package" in said
            assert "pip install" in said
            continue
        assert comfyui.run(prompt) == "success"
        assert comfyui.outputs("1")[0].name == option["key"]


def test_only_what_the_user_set_reaches_the_job(comfyui) -> None:
    config = value_of(
        comfyui, "Optimizer", optimizer="autotrustgo", **{"optimizer.lr": -1.0},
        **{"optimizer.trust_level": -1.0, "optimizer.formulation": "published",
           "optimizer.eps": 1e-8, "optimizer.stochastic_rounding": False},
    )  # fmt: skip
    assert config.lr is None
    assert "trust_level" not in config.options
    assert config.options["formulation"] == "published"

    config = value_of(
        comfyui, "Optimizer", optimizer="adamw", **{"optimizer.lr": 3e-4},
        **{"optimizer.beta1": 0.9, "optimizer.beta2": 0.99, "optimizer.weight_decay": 0.0,
           "optimizer.eps": 1e-8},
    )  # fmt: skip
    assert config.lr == 3e-4
    assert config.options["weight_decay"] == 0.0
    assert config.options["beta2"] == 0.99


def test_an_unknown_optimizer_is_refused(comfyui) -> None:
    said = comfyui.check({"1": node("Optimizer", optimizer="sgdx"), "2": show(["1", 0])})
    assert "optimizer" in said


def test_an_optimizer_needs_no_option(comfyui) -> None:
    config = value_of(comfyui, "Optimizer", optimizer="emonavi")
    assert (config.name, config.lr, dict(config.options)) == ("emonavi", None, {})


def test_the_plan_fills_exactly_the_options_on_auto() -> None:
    from trustopt_pack.nodes.optimizer import PLANNED
    from trustopt_pack.trustopt.config import OptimizerConfig
    from trustopt_pack.trustopt.optim import OPTIMIZERS
    from trustopt_pack.trustopt.plan import make_plan
    from trustopt_pack.trustopt.train.plan_job import with_plan_options

    plan = make_plan(20, family="sdxl")
    filled = set()
    for name, spec in OPTIMIZERS.items():
        options = with_plan_options(OptimizerConfig(name=name), plan, spec).options
        filled |= set(options)
        assert set(options) == {o.name for o in spec.options} & set(PLANNED)
    assert filled == set(PLANNED)


def test_out_of_range_options_are_refused_by_comfyui(comfyui) -> None:
    prompt = {
        "1": node("Optimizer", optimizer="adamw", **{
            "optimizer.beta1": 2.0, "optimizer.beta2": 0.9, "optimizer.weight_decay": 0.0,
            "optimizer.eps": 1e-8}),
        "2": show(["1", 0]),
    }  # fmt: skip
    assert "bigger than max" in comfyui.check(prompt)


def test_the_adapter_holds_what_was_set(comfyui) -> None:
    adapter = value_of(
        comfyui,
        "Adapter",
        algorithm="dora",
        rank=32,
        layer_rules="attn2: rank=4, lr=0.5\nff: alpha=2",
    )
    assert adapter["algorithm"] == "dora"
    assert adapter["rank"] == 32
    assert "alpha" not in adapter
    assert "targets" not in adapter
    assert adapter["ranks"] == {"attn2": 4}
    assert adapter["lr_scales"] == {"attn2": 0.5}
    assert adapter["alphas"] == {"ff": 2.0}


@pytest.mark.parametrize("rules", ["attn2", "attn2: size=3", "attn2: rank=many", ": rank=3"])
def test_layer_rules_that_are_none_are_quoted(comfyui, rules) -> None:
    prompt = {"1": node("Adapter", algorithm="lora", layer_rules=rules), "2": show(["1", 0])}
    said = comfyui.check(prompt)
    assert "layer_rules" in said
    assert rules in said


def test_the_objective_tells_loss_from_data(comfyui) -> None:
    choice = value_of(
        comfyui,
        "Objective",
        loss="huber",
        min_snr_gamma=0.0,
        caption_dropout=0.2,
        shuffle_tags=True,
    )
    assert choice.objective["loss"] == "huber"
    assert choice.objective["weighting"] == "none"
    assert "timesteps" not in choice.objective
    assert choice.data["caption_dropout"] == 0.2
    assert choice.data["shuffle_tags"] is True
