"""The page in Japanese: nodes, tooltips, the panel, messages and help, in both renderers."""

import json
from pathlib import Path

import pytest
from trustopt_test_graphs import Canvas, training_graph

LOCALES = Path(__file__).resolve().parents[2] / "locales"
SHORT = {"batch_size": 1, "resolution": 64, "rank": 4, "save_every": 0, "steps": 3}


def read(name: str) -> dict:
    return json.loads((LOCALES / "ja" / f"{name}.json").read_text(encoding="utf-8"))


NODES, PAGE = read("nodeDefs"), read("main")["trustopt"]
OPTIMIZER = NODES["TrustOpt_Optimizer"]["inputs"]
PRESET = NODES["TrustOpt_Preset"]["inputs"]
TRAINER = NODES["TrustOpt_TrainLora"]


@pytest.fixture
def english_afterwards(server):
    yield
    server.post("/settings", {"Comfy.Locale": "en"})


@pytest.fixture(params=["classic", "nodes2"])
def japanese(server, request, english_afterwards):
    """A page in Japanese, in either renderer; no error of ours may be logged in it."""
    import trustopt_test_server as tools

    server.post("/settings", {"Comfy.Locale": "ja", "TrustOpt.ImageSets": {}})
    with tools.browser_page(server, vue_nodes=request.param == "nodes2") as opened:
        canvas = Canvas(opened)
        yield canvas
        assert canvas.errors == []


def test_nodes_their_sockets_and_widgets_are_japanese(japanese) -> None:
    japanese.draw(training_graph("trainer"))
    japanese.wait_for_value("preset", "repeats", 1)
    labels = japanese.labels("preset")
    assert labels["steps"] == PRESET["steps"]["name"]
    assert labels["auto_adjust"] == PAGE["autoAdjust"]
    japanese.choose("preset", "steps", 1234)
    assert japanese.labels("preset")["steps"] == f"{PRESET['steps']['name']} *"

    said = japanese.read(
        "trainer",
        "({ title: n.constructor.title, description: n.constructor.nodeData.description,"
        " inputs: n.inputs.map((s) => s.localized_name),"
        " outputs: n.outputs.map((s) => s.localized_name) })",
    )
    names = {name: entry["name"] for name, entry in TRAINER["inputs"].items()}
    assert (said["title"], said["description"]) == (
        TRAINER["display_name"],
        TRAINER["description"],
    )
    assert sorted(said["inputs"]) == sorted(names.values())
    assert said["outputs"] == [entry["name"] for entry in TRAINER["outputs"].values()]


def test_the_chosen_optimizers_widgets_are_japanese(japanese) -> None:
    japanese.draw(training_graph("trainer"))
    tooltips = "Object.fromEntries(n.widgets.map((w) => [w.name, w.tooltip]))"
    for name, lr in (("emolynx", "optimizer_emolynx_lr"), ("adamw", "optimizer_lr")):
        japanese.choose("optimizer", "optimizer", name)
        assert japanese.labels("optimizer")["optimizer.lr"] == OPTIMIZER["optimizer_lr"]["name"]
        said = japanese.read("optimizer", tooltips)
        assert said["optimizer.lr"] == OPTIMIZER[lr]["tooltip"]
        assert said["optimizer.weight_decay"] == OPTIMIZER["optimizer_weight_decay"]["tooltip"]


def test_messages_and_the_panel_are_japanese(japanese, pictures, request) -> None:
    name = f"japanese {request.node.callspec.id}"
    japanese.draw(training_graph(name, **SHORT))
    japanese.page.get_by_text(PAGE["runs"], exact=True).first.wait_for()  # in the sidebar
    panel = japanese.page.locator(".trustopt-panel")
    assert PAGE["idle"] in panel.inner_text()
    assert PAGE["stop"] in panel.inner_text()
    japanese.choose("preset", "auto_adjust", None)
    told = japanese.toast("に適用しました")
    assert "• ステップ数: 3 *（1 枚あたり 0.1 ステップ）" in told
    assert "set by you" not in told

    japanese.page.evaluate("async () => { await app.queuePrompt(0) }")
    assert f"{name}.safetensors: ステップ 3 / 3" in japanese.toast(PAGE["finished"])
    japanese.page.screenshot(path=pictures / f"{name}.png")
    status = panel.locator(".trustopt-status").inner_text()
    assert status == f"{PAGE['finished']} · ステップ 3 / 3 · {name}.safetensors"


def test_the_help_is_japanese(japanese) -> None:
    page = LOCALES.parent / "web" / "docs" / "TrustOpt_Optimizer" / "ja.md"
    first_paragraph = page.read_text(encoding="utf-8").splitlines()[2]
    japanese.draw(training_graph("trainer"))
    japanese.page.evaluate(
        "() => app.canvas.selectNode(app.graph.nodes.find((n) => n.title === 'optimizer'))"
    )
    japanese.page.locator('[data-testid="info-button"]:visible').first.click()
    japanese.page.get_by_text(first_paragraph).wait_for()


def test_another_language_is_taken_without_a_reload(canvas, english_afterwards) -> None:
    graph = training_graph("trainer")
    canvas.draw(graph)
    canvas.wait_for_value("preset", "repeats", 1)
    assert canvas.labels("preset")["auto_adjust"] == "Auto-Adjust Parameters"
    canvas.page.evaluate("() => app.extensionManager.setting.set('Comfy.Locale', 'ja')")
    # The frontend redraws the nodes at once, at times before it has fetched the language: its own
    # nodes stay English then, too. A workflow opened a little later is in the chosen language.
    is_japanese = f"nodeOf('optimizer').widgets[0].label === '{OPTIMIZER['optimizer']['name']}'"
    for _ in range(30):
        canvas.draw(graph)
        if canvas.read("optimizer", is_japanese):
            break
        canvas.page.wait_for_timeout(1000)
    assert canvas.read("optimizer", is_japanese)
    assert canvas.labels("preset")["auto_adjust"] == PAGE["autoAdjust"]
    tooltip = canvas.read("optimizer", "n.widgets.find((w) => w.name === 'optimizer.lr').tooltip")
    assert tooltip == OPTIMIZER["optimizer_lr"]["tooltip"]
