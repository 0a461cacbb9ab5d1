"""The plan a browser fills in before anything runs is the plan the node makes when it runs."""

import asyncio
import importlib
import json

import pytest
from PIL import Image
from trustopt_pack.trustopt.adapters import build_adapters, select_layers
from trustopt_pack.trustopt.config import AdapterConfig
from trustopt_pack.trustopt.hosts.layouts.family import FluxModel, SDXLModel
from trustopt_pack.trustopt.hosts.shapes import model_shapes
from trustopt_pack.trustopt.plan import VALUES
from trustopt_test_prompts import EXAMPLE, node, show, training

import nodes


@pytest.fixture(scope="module", autouse=True)
def builtin_preview_node(pack_nodes) -> None:
    import trustopt_test_graph

    trustopt_test_graph.load_builtin("nodes_preview_any.py")


def own_module(name: str):
    """Return a module of the pack's nodes, of the copy that ComfyUI loaded."""
    package = nodes.NODE_CLASS_MAPPINGS["TrustOpt_Preset"].__module__.rpartition(".")[0]
    return importlib.import_module(f"{package}.{name}")


def ask(**query) -> dict:
    return own_module("prefill").prefill(own_module("prefill").Query(**query))


@pytest.fixture
def cats(comfyui, tmp_path) -> str:
    """Six pictures below ComfyUI's input folder, one of them twice."""
    folder = tmp_path / "input" / "cats"
    folder.mkdir()
    for index in range(6):
        Image.new("RGB", (64 + 8 * index, 64), (40 * index, 0, 0)).save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text(f"cat number {index}")
    (folder / "copy.png").write_bytes((folder / "0.png").read_bytes())
    (folder / "copy.txt").write_text("cat number 0")
    return "cats"


def test_the_widgets_get_what_the_node_computes(comfyui, cats) -> None:
    mine = {"steps": 321, "flip": "on"}
    answer = ask(folder=cats, family="flux", purpose="style", overrides=mine)
    comfyui.run(
        {
            "1": node("LoadImageSet", folder=cats),
            "2": node("Preset", image_set=["1", 0], family="flux", purpose="style", **mine),
            "3": show(["2", 1]),
        }
    )
    plan = comfyui.outputs("2")[0]
    on_off = {True: "on", False: "off"}
    expected = {name: getattr(plan, name) for name in VALUES if name != "sample_every"}
    assert answer["values"] == {
        name: on_off[value] if isinstance(value, bool) else value
        for name, value in expected.items()
    }
    assert answer["overridden"] == ["flip", "steps"]
    assert answer["num_images"] == 6
    assert answer["warnings"] == list(plan.warnings)
    json.dumps(answer, allow_nan=False)


def test_every_value_fits_the_nodes_widgets(comfyui, cats) -> None:
    inputs = nodes.NODE_CLASS_MAPPINGS["TrustOpt_Preset"].INPUT_TYPES()["optional"]
    for name, value in ask(folder=cats, family="sdxl")["values"].items():
        kind, options = inputs[name]
        if kind == "COMBO":
            assert value in options["options"], name
        else:
            assert options["min"] <= value <= options["max"], name


def test_what_is_left_on_auto_follows_what_is_set(cats) -> None:
    plain = ask(folder=cats, family="flux")["values"]
    mine = ask(folder=cats, family="flux", overrides={"steps": 1000, "rank": 32, "lr": -1})
    assert (plain["steps"], plain["warmup_steps"], plain["alpha"]) == (1500, 300, 8.0)
    assert (mine["values"]["warmup_steps"], mine["values"]["alpha"]) == (200, 16.0)
    assert mine["overridden"] == ["rank", "steps"]


def test_the_message_has_every_figure(cats) -> None:
    adamw = ask(folder=cats, family="flux", model="tiny-flux", optimizer="adamw")["toast"]
    assert adamw.splitlines()[:5] == [
        "Preset A (small) applied for 6 images (FLUX character):",
        "• 1500 steps (250 steps per image)",
        "• LR: 2e-4 (cosine scheduler)",
        "• Rank/Alpha: 16/8",
        "• Repeats: 2, Epochs: 125, Warmup: 300 steps",
    ]
    assert "• File: about " in adamw
    assert "⚠ 6 image sizes" in adamw
    assert "⚠ 1 files skipped, such as copy.png: the same image and caption as 0" in adamw
    trust = ask(folder=cats, family="flux", optimizer="autotrustgo")["toast"]
    assert "• 1800 steps" in trust  # as it will run
    assert "scheduler constant instead of cosine" in trust


def test_an_adapter_node_is_named_with_its_size(cats) -> None:
    wide = {"algorithm": "lora", "rank": 32, "alpha": -1, "targets": "auto"}
    query = {"folder": cats, "family": "sdxl", "model": "tiny-sdxl"}
    assert "• Adapter node: lora, rank/alpha 32/16" in ask(**query, adapter=wide)["toast"]
    size = own_module("prefill").file_bytes
    model = own_module("prefill").model_of("tiny-sdxl")
    assert size(model, AdapterConfig(rank=32), "auto") == 2 * size(model, AdapterConfig(), "auto")
    assert size(model, AdapterConfig(), "fp32") == 2 * size(model, AdapterConfig(), "bf16")
    assert size(model, AdapterConfig(algorithm="loha"), "auto") is None  # only building it tells


def test_a_family_nobody_told_is_asked_for(cats) -> None:
    with pytest.raises(ValueError, match="family is auto and no model is connected: connect MODEL"):
        ask(folder=cats)
    with pytest.raises(ValueError, match=r"family is auto and some\.gguf tells no family"):
        ask(folder=cats, model="some.gguf")
    assert "SDXL" in ask(folder=cats, model="tiny-sdxl")["toast"]


@pytest.mark.parametrize("folder", ["../secret", "cats/../../secret", "/etc", ""])
def test_a_folder_outside_input_is_refused(comfyui, tmp_path, folder) -> None:
    (tmp_path / "secret").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "secret" / "a.png")
    with pytest.raises(ValueError, match=r"leaves ComfyUI's input folder|no folder of images"):
        ask(folder=folder, family="sdxl")


def test_a_new_picture_is_seen(comfyui, cats, tmp_path) -> None:
    assert ask(folder=cats, family="sdxl")["num_images"] == 6
    Image.new("RGB", (64, 64), (1, 2, 3)).save(tmp_path / "input" / "cats" / "new.png")
    assert ask(folder=cats, family="sdxl")["num_images"] == 7


def test_time_is_told_once_it_was_measured(comfyui) -> None:
    query = {
        "folder": EXAMPLE,
        "family": "sdxl",
        "overrides": {"batch_size": 2, "resolution": 64},
        "model": "tiny-sdxl",
    }
    assert "• Time:" not in ask(**query)["toast"]
    comfyui.run(training(steps=6))
    assert "• Time: about " in ask(**query)["toast"]
    other = query | {"overrides": {"batch_size": 4, "resolution": 64}}
    assert "• Time:" not in ask(**other)["toast"]


def test_the_message_is_in_the_users_language(cats) -> None:
    query = {"folder": cats, "family": "flux", "model": "tiny-flux", "optimizer": "autotrustgo"}
    wide = {"algorithm": "lora", "rank": 32, "alpha": -1, "targets": "auto"}
    lines = ask(**query, adapter=wide, overrides={"rank": 8}, language="ja")["toast"].splitlines()
    assert lines[0] == "プリセット A (small) を画像 6 枚に適用しました（FLUX character）:"
    assert "• ステップ数: 1800（1 枚あたり 300 ステップ）" in lines
    assert "• ランク/Alpha: 8 */4" in lines
    assert "• アダプターノード: lora、rank/alpha 32/16" in lines
    assert "* は自分で設定した値" in lines
    assert any(line.startswith("⚠ 画像サイズが 6 種類") for line in lines)
    assert any(line.startswith("⚠ 1 個のファイルをスキップしました") for line in lines)
    for unknown in ("en", "eo", "", "../ja", "ja/../ja"):
        assert ask(**query, language=unknown)["toast"].startswith("Preset A (small) applied")


# -- model files ---------------------------------------------------------------------------------


def write_header(path, shapes, prefix: str) -> None:
    """Write the start of a safetensors file: its header, none of its data."""
    tensors = {
        prefix + name: {"dtype": "F16", "shape": list(shape), "data_offsets": [0, 0]}
        for name, shape in shapes.items()
    }
    header = json.dumps({"__metadata__": {"format": "pt"}, **tensors}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)


@pytest.mark.parametrize(
    ("layout", "folder", "prefix", "family", "layers", "megabytes"),
    [
        (SDXLModel(), "checkpoints", "model.diffusion_model.", "sdxl", 722, 85),
        (FluxModel(), "diffusion_models", "", "flux", 304, 153),
    ],
)
def test_a_files_header_tells_family_and_size(
    comfyui, tmp_path, monkeypatch, layout, folder, prefix, family, layers, megabytes
) -> None:
    import folder_paths

    write_header(tmp_path / "base.safetensors", model_shapes(layout)["unet"], prefix)
    extensions = {".safetensors"}
    monkeypatch.setitem(folder_paths.folder_names_and_paths, folder, ([str(tmp_path)], extensions))
    model = own_module("model_file").find_model("base.safetensors")
    assert model.family == family
    config = AdapterConfig(rank=16)
    assert len(select_layers(model.layers, config, family)) == layers
    size = own_module("prefill").file_bytes(model, config, "auto")
    assert round(size / 1e6) == megabytes
    assert own_module("model_file").find_model("../base.safetensors") is not None  # cut off
    assert own_module("model_file").find_model("absent.safetensors") is None


@pytest.mark.parametrize("algorithm", ["lora", "locon"])
@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_the_size_is_that_of_the_real_adapter(comfyui, family, algorithm) -> None:
    import torch

    config = AdapterConfig(rank=4, algorithm=algorithm, conv_rank=2)
    model = own_module("model_file").tiny_model(family)
    chosen = select_layers(model.layers, config, family)
    built = build_adapters(chosen, config, torch.Generator())
    assert own_module("model_file").lora_parameters(model, config) == built.num_parameters


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a pickle", b"\x02" + bytes(7) + b"[]"])
def test_a_file_of_another_kind_tells_nothing(comfyui, tmp_path, content) -> None:
    (tmp_path / "x.ckpt").write_bytes(content)
    assert own_module("model_file").read_shapes(tmp_path / "x.ckpt") == {}


# -- routes --------------------------------------------------------------------------------------


def request(**parameters):
    """Return what an aiohttp handler reads of a request."""
    return type("Request", (), {"query": parameters, "match_info": parameters})()


def answer_of(handler: str, parameters: dict) -> tuple[int, dict]:
    response = asyncio.run(getattr(own_module("web_routes"), handler)(request(**parameters)))
    return response.status, json.loads(response.text)


def test_the_route_answers_with_a_plan_or_a_problem(cats) -> None:
    status, answer = answer_of("get_plan", {"folder": cats, "family": "sdxl", "lr": "-1"})
    assert (status, answer["values"]["steps"]) == (200, 1500)
    status, answer = answer_of("get_plan", {"folder": "nothing here", "family": "sdxl"})
    assert status == 200
    assert "does not exist below" in answer["problem"]
    status, answer = answer_of("get_plan", {"folder": cats, "language": "ja"})
    assert answer["problem"].startswith("系統が auto ですが、モデルが接続されていません。")
    both = json.dumps({"steps": 100, "epochs": 99})
    status, answer = answer_of("get_plan", {"folder": cats, "family": "sdxl", "overrides": both})
    assert "disagree" in answer["problem"]


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"folder": "cats", "colour": "red"},
        {"folder": "cats", "repeats": "many"},
        {"folder": "cats", "overrides": "[1]"},
        {"folder": "cats", "overrides": "{"},
    ],
)
def test_a_malformed_question_is_refused(comfyui, parameters) -> None:
    status, answer = answer_of("get_plan", parameters)
    assert status == 400
    assert answer["error"]


def test_wishes_to_a_run_that_is_not_under_way_are_refused(comfyui) -> None:
    assert answer_of("wish_of_run", {"run_id": "none", "wish": "save"})[0] == 404
