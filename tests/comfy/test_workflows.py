"""The shipped workflows fit the nodes of today: no browser needed, unlike tests/browser."""

import json
import math
from pathlib import Path

import pytest
from PIL import Image

import nodes

FOLDER = Path(__file__).parents[2] / "workflows"
FILES = sorted(FOLDER.glob("*.json"))
FROM_THE_FRONTEND = {"MarkdownNote"}
MODEL_LISTS = {"ckpt_name", "unet_name", "clip_name1", "clip_name2", "vae_name"}


@pytest.fixture(scope="session", autouse=True)
def builtin_nodes(pack_nodes) -> None:
    import trustopt_test_graph

    for name in ("nodes_flux.py", "nodes_sd3.py", "nodes_preview_any.py"):
        trustopt_test_graph.load_builtin(name)


def ids(path: Path) -> str:
    return path.stem


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def schema_of(node: dict) -> dict:
    """Return the inputs a node has now, those of a chosen list entry included."""
    groups = nodes.NODE_CLASS_MAPPINGS[node["type"]].INPUT_TYPES()
    given = {**groups["required"], **groups.get("optional", {})}
    inputs = {name: (kind, spec[0] if spec else {}) for name, (kind, *spec) in given.items()}
    for name, (kind, spec) in list(inputs.items()):
        if kind == "COMFY_DYNAMICCOMBO_V3":
            chosen = node["widgets_values_named"][name]
            option = next(o for o in spec["options"] if o["key"] == chosen)["inputs"]
            for group in option.values():
                inputs |= {f"{name}.{inner}": tuple(entry) for inner, entry in group.items()}
    return inputs


def test_each_has_a_thumbnail() -> None:
    assert len(FILES) == 8
    for path in FILES:
        with Image.open(path.with_suffix(".jpg")) as picture:
            assert picture.format == "JPEG"
            assert picture.width > picture.height >= 360


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_every_node_exists_and_has_the_sockets_it_is_drawn_with(path) -> None:
    for node in read(path)["nodes"]:
        if node["type"] in FROM_THE_FRONTEND:
            continue
        inputs = schema_of(node)
        drawn = {entry["name"] for entry in node["inputs"]}
        plain = {name for name in drawn if not name.startswith("runs.")}
        assert plain == {n for n, (kind, _) in inputs.items() if kind != "COMFY_AUTOGROW_V3"}
        info = nodes.NODE_CLASS_MAPPINGS[node["type"]]
        assert [entry["type"] for entry in node["outputs"]] == [str(t) for t in info.RETURN_TYPES]


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_every_widget_holds_a_value_it_may_have(path) -> None:
    for node in read(path)["nodes"]:
        if node["type"] in FROM_THE_FRONTEND:
            continue
        inputs = schema_of(node)
        for name, value in node.get("widgets_values_named", {}).items():
            if name not in inputs:  # a companion of a seed: what happens to it after a run
                assert value == "fixed"
                continue
            kind, spec = inputs[name]
            choices = kind if isinstance(kind, list) else spec.get("options")
            if choices and name not in MODEL_LISTS and kind != "COMFY_DYNAMICCOMBO_V3":
                assert value in choices, (node["type"], name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                assert spec.get("min", -math.inf) <= value <= spec.get("max", math.inf)


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_required_sockets_are_connected(path) -> None:
    for node in read(path)["nodes"]:
        if node["type"] in FROM_THE_FRONTEND:
            continue
        required = nodes.NODE_CLASS_MAPPINGS[node["type"]].INPUT_TYPES()["required"]
        for entry in node["inputs"]:
            if "widget" not in entry and entry["name"] in required:
                assert entry["link"] is not None, (node["type"], entry["name"])


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_nodes_name_the_pack_that_has_them(path) -> None:
    for node in read(path)["nodes"]:
        if node["type"].startswith("TrustOpt_"):
            assert node["properties"]["cnr_id"] == "trustopt"
            assert node["properties"]["Node name for S&R"] == node["type"]


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_no_node_covers_another(path) -> None:
    boxes = [(n["type"], *n["pos"], *n["size"]) for n in read(path)["nodes"]]
    for index, (_, left, top, width, height) in enumerate(boxes):
        for _, other_left, other_top, other_width, other_height in boxes[index + 1 :]:
            apart = (
                left + width <= other_left
                or other_left + other_width <= left
                or top + height <= other_top - 30  # a title stands above its node
                or other_top + other_height <= top - 30
            )
            assert apart


@pytest.mark.parametrize(("path"), [f for f in FILES if "character" in f.stem], ids=ids)
def test_workflows_for_real_models_leave_the_plan_to_the_preset(path) -> None:
    preset = next(n for n in read(path)["nodes"] if n["type"] == "TrustOpt_Preset")
    values = preset["widgets_values_named"]
    assert values.pop("purpose") == "character"
    assert set(values.values()) == {-1, "auto"}
