"""A chosen folder fills the Preset node in: in real pages, in both renderers."""

import pytest
from PIL import Image
from trustopt_test_graphs import Canvas, training_graph

CATS, DOGS = "cats", "sets/10_zxq dog"


@pytest.fixture(scope="module", autouse=True)
def folders(server) -> None:
    """Six cats and twenty dogs below ComfyUI's input folder."""
    for name, count in ((CATS, 6), (DOGS, 20)):
        folder = server.folder / "input" / name
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            picture = Image.new("RGB", (64, 64), (10 * index, 5 * index, len(name)))
            picture.save(folder / f"{index}.png")
            (folder / f"{index}.txt").write_text(f"number {index}")


def plan_of(canvas, *names: str) -> tuple:
    values = canvas.widgets("preset")
    return tuple(values[name] for name in names)


def test_choosing_a_folder_fills_the_preset_and_the_trigger_word(canvas) -> None:
    canvas.draw(training_graph("trainer"))
    canvas.choose("preset", "purpose", "style")
    canvas.choose("images", "folder", CATS)
    canvas.wait_for_value("preset", "epochs", 250)
    assert plan_of(canvas, "steps", "lr", "rank", "alpha", "repeats") == (1500, 1e-4, 32, 16, 1)
    assert plan_of(canvas, "scheduler", "warmup_steps", "flip") == ("cosine", 75, "on")
    assert canvas.widgets("images")["trigger_word"] == "cats"
    toast = canvas.toast("applied for 6 images")
    for figure in (
        "Preset A (small) applied for 6 images (SDXL style):",
        "• 1800 steps (300 steps per image)",  # as AutoTrustGO runs it
        "• LR: 1.25e-4 (constant scheduler)",
        "• Rank/Alpha: 32/16",
        "• Repeats: 1, Epochs: 300, Warmup: none",
        "• File: about",
    ):
        assert figure in toast

    canvas.choose("images", "folder", DOGS)
    canvas.wait_for_value("preset", "epochs", 100)
    assert canvas.widgets("images")["trigger_word"] == "zxq dog"
    assert "applied for 20 images" in canvas.toast("Preset B (medium)")


def test_what_is_filled_in_stays_auto_in_workflow_and_prompt(canvas) -> None:
    canvas.draw(training_graph("trainer", folder=CATS, rank=8))
    canvas.wait_for_value("preset", "steps", 1500)
    automatic = {"steps": -1, "lr": -1, "rank": 8, "alpha": -1, "scheduler": "auto", "flip": "auto"}
    saved = canvas.saved("preset")
    assert automatic.items() <= saved["widgets_values_named"].items()
    assert saved["widgets_values"][2:6] == [-1, -1, 8, -1]
    assert automatic.items() <= canvas.queued("preset").items()
    # The same workflow with another image set is computed anew for that.
    canvas.page.evaluate(
        "async (folder) => { const saved = JSON.parse(JSON.stringify(app.graph.serialize()));"
        " const images = saved.nodes.find((n) => n.title === 'images');"
        " images.widgets_values[0] = images.widgets_values_named.folder = folder;"
        " await app.loadGraphData(saved) }",
        DOGS,
    )
    canvas.wait_for_value("preset", "steps", 2000)
    assert plan_of(canvas, "rank", "alpha") == (8, 4)
    assert canvas.labels("preset")["rank"] == "rank *"


def test_what_the_user_sets_is_kept_and_the_rest_follows(canvas) -> None:
    canvas.draw(training_graph("trainer", folder=CATS))
    canvas.wait_for_value("preset", "steps", 1500)
    canvas.choose("preset", "steps", 2000)
    canvas.choose("preset", "rank", 64)
    canvas.wait_for_value("preset", "warmup_steps", 100)
    assert plan_of(canvas, "alpha") == (32,)
    labels = canvas.labels("preset")
    assert (labels["steps"], labels["rank"], labels["alpha"]) == ("steps *", "rank *", "alpha")
    # 2000 is what the preset has for the next folder: it is still the user's.
    canvas.choose("images", "folder", DOGS)
    canvas.wait_for_value("preset", "epochs", 100)
    assert canvas.saved("preset")["widgets_values_named"]["steps"] == 2000
    toast = canvas.toast("applied for 20 images")
    assert "2000 steps * (" in toast
    assert "Rank/Alpha: 64 */32" in toast
    assert toast.rstrip().endswith("* set by you")
    canvas.choose("preset", "rank", -1)
    canvas.wait_for_value("preset", "rank", 16)
    assert canvas.labels("preset")["rank"] == "rank"


def test_choices_come_back_with_their_image_set(canvas) -> None:
    canvas.draw(training_graph("trainer", folder=CATS))
    canvas.wait_for_value("preset", "steps", 1500)
    canvas.choose("preset", "steps", 1111)
    canvas.choose("images", "trigger_word", "zxq")
    canvas.choose("images", "folder", DOGS)
    canvas.wait_for_value("preset", "epochs", 56)
    assert plan_of(canvas, "steps") == (1111,)  # nothing was chosen for the dogs yet
    canvas.choose("preset", "steps", 2222)
    canvas.choose("preset", "purpose", "concept")
    canvas.choose("images", "folder", CATS)
    canvas.wait_for_value("preset", "steps", 1111)
    assert plan_of(canvas, "purpose") == ("character",)
    assert canvas.widgets("images")["trigger_word"] == "zxq"
    canvas.page.wait_for_load_state("networkidle")
    canvas.reload()
    canvas.draw(training_graph("trainer", folder=CATS))
    canvas.choose("images", "folder", DOGS)
    canvas.wait_for_value("preset", "steps", 2222)
    assert plan_of(canvas, "purpose") == ("concept",)


def test_the_button_applies_the_preset_again(canvas) -> None:
    canvas.draw(training_graph("trainer", folder=CATS))
    canvas.wait_for_value("preset", "steps", 1500)
    button = canvas.page.get_by_role("button", name="Auto-Adjust Parameters")
    if button.count():  # Nodes 2.0 has elements, the classic canvas draws its own
        button.click()
    else:
        canvas.choose("preset", "auto_adjust", None)
    assert "applied for 6 images (SDXL character)" in canvas.toast("Preset A")


def test_a_question_without_an_answer_says_what_to_do(canvas) -> None:
    graph = training_graph("trainer", folder=CATS)
    graph["links"] = [link for link in graph["links"] if link[1:] != ("model", "preset", "model")]
    canvas.draw(graph)
    canvas.choose("preset", "auto_adjust", None)
    assert "family is auto and no model is connected" in canvas.toast("No preset")
    assert plan_of(canvas, "steps", "scheduler") == (-1, "auto")
    canvas.choose("preset", "family", "flux")
    canvas.wait_for_value("preset", "steps", 1500)
    assert plan_of(canvas, "lr", "warmup_steps") == (2e-4, 300)


def test_presets_in_subgraphs_are_filled_in(canvas) -> None:
    canvas.draw(training_graph("trainer", folder=CATS))
    canvas.wait_for_value("preset", "steps", 1500)
    canvas.page.evaluate(
        "() => { const [p] = app.graph.nodes.filter((n) => n.title === 'preset');"
        " app.graph.convertToSubgraph(new Set([p])) }"
    )
    canvas.choose("images", "folder", DOGS)
    canvas.wait_for_value("preset", "steps", 2000)
    assert canvas.queued("preset")["steps"] == -1


def test_typing_pins_a_value_and_looking_at_one_does_not(vue_page) -> None:
    canvas = Canvas(vue_page)
    canvas.draw(training_graph("trainer", folder=CATS))
    canvas.wait_for_value("preset", "steps", 1500)
    number = canvas.saved("preset")["id"]
    inputs = vue_page.locator(f'[data-node-id="{number}"] input')
    inputs.nth(1).click(force=True)  # the learning rate, shown rounded; a slider lies over it
    vue_page.keyboard.press("Tab")
    inputs.nth(0).fill("1000")
    vue_page.keyboard.press("Enter")
    canvas.wait_for_value("preset", "warmup_steps", 50)
    saved = canvas.saved("preset")["widgets_values_named"]
    assert (saved["steps"], saved["lr"], saved["rank"]) == (1000, -1, -1)
    assert canvas.errors == []
