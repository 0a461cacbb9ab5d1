"""The shipped workflows in ComfyUI's own frontend: they load whole, save unchanged, and run."""

import pytest
from trustopt_test_workflows import NAMES, open_in, prompt_of, read, serialized

EXAMPLES = (
    "compare_optimizers",
    "continue_training",
    "flux_character",
    "flux_style",
    "quickstart_tiny",
    "sdxl_character",
    "sdxl_low_vram",
    "sdxl_style",
)

FEW = 20
"""Steps where the length of a run is not what is tested."""

WRONG_WIDGETS = """
() => window.app.graph.nodes.flatMap((node) => (node.widgets ?? []).filter((w) => {
  const values = typeof w.options?.values === 'function' ? w.options.values() : w.options?.values
  return w.type === 'combo' && Array.isArray(values) && !values.includes(w.value)
}).map((w) => `${node.type}.${w.name} = ${w.value}`))
"""


CONTROL = ("fixed", "control_after_generate")
"""What older and newer frontends call the widget below a seed."""


def without_noise(workflow: dict) -> dict:
    """Return a workflow without what each session, and each frontend, has of its own.

    Newer frontends number links anew when they load a workflow: links are compared by their ends.
    """
    own = ("id", "extra", "revision", "last_link_id", "links")
    ends = {number: tuple(link) for number, *link in workflow["links"]}
    return {
        **{k: v for k, v in workflow.items() if k not in own},
        "links": sorted(ends.values()),
        "nodes": [node_without_noise(node, ends) for node in workflow["nodes"]],
    }


def node_without_noise(node: dict, ends: dict) -> dict:
    """Return a node with its links' ends in place of their numbers."""
    kept = {k: v for k, v in node.items() if k not in ("order", "size")}
    if named := node.get("widgets_values_named"):
        kept["widgets_values_named"] = {k: v for k, v in named.items() if k not in CONTROL}
    for group, key in (("inputs", "link"), ("outputs", "links")):
        kept[group] = []
        for slot in node.get(group, []):
            numbers = slot.get(key) or []
            numbers = numbers if isinstance(numbers, list) else [numbers]
            linked = sorted(ends[number] for number in numbers)
            named = {k: v for k, v in slot.items() if k != "localized_name"}
            kept[group].append({**named, key: linked})
    return kept


def test_these_are_the_workflows() -> None:
    assert tuple(NAMES) == EXAMPLES


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_workflow_loads_whole_and_saves_unchanged(one_page, pictures, name) -> None:
    page, problems = one_page, []
    page.on("console", lambda m: problems.append(m.text) if "TrustOpt" in m.text else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    open_in(page, read(name))
    page.screenshot(path=pictures / f"{name}.png")

    missing = page.evaluate("() => window.app.graph.nodes.filter((n) => n.has_errors).length")
    assert missing == 0
    assert page.evaluate(WRONG_WIDGETS) == []
    assert page.get_by_text("errors found").count() == 0
    assert page.get_by_role("dialog").count() == 0
    assert without_noise(serialized(page)) == without_noise(read(name))
    assert problems == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_workflow_is_all_the_server_needs(server, one_page, name) -> None:
    open_in(one_page, read(name))
    prompt = prompt_of(one_page)
    info = server.get("/object_info")
    for node in prompt.values():
        assert node["class_type"] in info
        required = info[node["class_type"]]["input"]["required"]
        assert required.keys() <= node["inputs"].keys()


def test_the_note_names_the_nodes_as_the_graph_shows_them() -> None:
    for name in EXAMPLES:
        note = next(n for n in read(name)["nodes"] if n["type"] == "MarkdownNote")
        text = note["widgets_values"][0]
        assert all(title in text for title in ("Load Image Set", "Train LoRA", "output/loras"))


def test_the_quickstart_runs_by_post(server, one_page) -> None:
    open_in(one_page, read("quickstart_tiny"))
    prompt = prompt_of(one_page)
    trainer = next(n for n in prompt.values() if n["class_type"] == "TrustOpt_TrainLora")
    trainer["inputs"]["name"] = "posted"
    preset = next(n for n in prompt.values() if n["class_type"] == "TrustOpt_Preset")
    preset["inputs"]["steps"] = FEW
    history = server.finished(server.queue(prompt))
    assert history["status"]["status_str"] == "success", server.log[-3000:]
    assert (server.folder / "output" / "loras" / "posted.safetensors").exists()
    previews = [
        output["images"] for node, output in history["outputs"].items()
        if prompt[node]["class_type"] == "PreviewImage"
    ]  # fmt: skip
    assert len(previews) == 2


@pytest.mark.parametrize("renderer", ["page", "vue_page"])
def test_the_quickstart_runs_in_the_browser(request, server, pictures, renderer) -> None:
    page = request.getfixturevalue(renderer)
    page.set_viewport_size({"width": 2000, "height": 1300})
    workflow = read("quickstart_tiny")
    trainer = next(n for n in workflow["nodes"] if n["type"] == "TrustOpt_TrainLora")
    trainer["widgets_values"][:2] = [f"browser_{renderer}", {"page": 1, "vue_page": 2}[renderer]]
    trainer.pop("widgets_values_named", None)
    if renderer == "vue_page":  # once in full length is enough
        preset = next(n for n in workflow["nodes"] if n["type"] == "TrustOpt_Preset")
        preset["widgets_values"][2] = preset["widgets_values_named"]["steps"] = FEW
    open_in(page, workflow)
    page.evaluate(WATCH)
    page.evaluate("() => { void window.app.queuePrompt(0) }")
    page.wait_for_function("() => window.seen.events.length >= 5", timeout=900_000)
    page.wait_for_timeout(1500)
    page.screenshot(path=pictures / f"running_{renderer}.png")
    page.wait_for_function("() => window.seen.ended !== null", timeout=1_800_000)
    page.wait_for_timeout(2000)
    page.screenshot(path=pictures / f"finished_{renderer}.png")
    seen = page.evaluate("() => window.seen")
    assert seen["ended"] == "execution_success", seen
    assert seen["events"][-1]["status"] == "finished"
    steps = [step for event in seen["events"] for step in event.get("columns", {}).get("step", [])]
    assert steps == list(range(1, seen["events"][-1]["steps"] + 1))
    assert (server.folder / "output" / "loras" / f"browser_{renderer}.safetensors").exists()


WATCH = """
() => {
  const api = window.app.api
  const seen = { events: [], ended: null }
  window.seen = seen
  api.addEventListener('trustopt.progress', (e) => seen.events.push(e.detail))
  for (const name of ['execution_success', 'execution_error', 'execution_interrupted'])
    api.addEventListener(name, () => { seen.ended = name })
}
"""
