"""The run browser in real pages, in both renderers: it lists, follows, and brings back runs."""

import json
import shutil
import time
from urllib.parse import quote

import pytest
from trustopt_test_graphs import NODE, Canvas, node, training_graph
from trustopt_test_panels import name_of
from trustopt_test_workflows import prompt_of

SHORT = {"batch_size": 1, "resolution": 64, "rank": 4, "save_every": 0}
ENDLESS = 100_000

MADE_UP = [
    {
        "run_id": f"run {index}",
        "status": ["finished", "stopped", "interrupted", "unknown", "faulty"][index % 5],
        "step": index,
        "steps": 1000,
        "loss": 0.5 / (index + 1),
        "time": 1.7e9 - 3600 * index,
        "family": ["sdxl", "flux"][index % 2],
        "model": "some_model.safetensors",
        "purpose": ["character", "style", "concept"][index % 3],
        "preset": "B",
        "images": 20,
        "optimizer": ["autotrustgo", "emonavi"][index % 2],
        "algorithm": "lora",
        "rank": 16,
        "samples": [],
        "lora": None,
        "node": None,
        "workflow": None,
    }
    for index in range(300)
]


class Tab:
    """The tab, as a user sees it."""

    def __init__(self, canvas, server) -> None:
        self.canvas, self.server, self.page = canvas, server, canvas.page

    def toggle(self) -> None:
        self.page.locator("nav button", has_text="Training runs").click()

    def cards(self, name: str = ""):
        cards = self.page.locator(".trustopt-run")
        return cards.filter(has=self.page.get_by_text(name, exact=True)) if name else cards

    def open(self, name: str):
        card = self.cards(name)
        card.locator(".trustopt-run-head").click()
        card.locator(".trustopt-run-actions").wait_for()
        return card

    def button(self, name: str, text: str):
        return self.cards(name).get_by_role("button", name=text, exact=True)

    def press(self, name: str, text: str) -> None:
        self.button(name, text).click(timeout=60_000)  # waits until it is enabled

    def filter(self, words: str) -> None:
        self.page.get_by_placeholder("Filter").fill(words)

    def curves(self, name: str) -> int:
        """Count the coloured pixels of an opened run's chart."""
        return (
            self.cards(name)
            .locator("canvas")
            .first.evaluate("""(canvas) => {
          const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)
          let count = 0
          for (let i = 0; i < data.length; i += 4) {
            const [r, g, b, a] = data.slice(i, i + 4)
            if (a > 200 && Math.max(r, g, b) - Math.min(r, g, b) > 60) count += 1
          }
          return count
        }""")
        )

    def step_of(self, name: str) -> int:
        line = self.cards(name).locator(".trustopt-run-line").first.inner_text()
        return int(line.partition("step ")[2].split(" ")[0] or 0)

    def wait_for_step(self, name: str, step: int, seconds: float = 240) -> None:
        end = time.monotonic() + seconds
        while self.step_of(name) < step:
            assert time.monotonic() < end, self.cards(name).inner_text()
            self.page.wait_for_timeout(200)

    def wait_for_pictures(self, place, name: str, number: int) -> None:
        """Wait until an element shows so many pictures whose files are named so."""
        self.page.wait_for_function(
            "([e, name, n]) => [...e.querySelectorAll('img')]"
            ".filter((i) => i.naturalWidth && i.src.includes(name)).length === n",
            arg=[place.element_handle(), name, number],
        )

    def nodes(self, kind: str) -> list[dict]:
        """Return the widgets of the open workflow's nodes of a type."""
        return self.page.evaluate(
            f"(kind) => {{ {NODE} return app.graph.nodes.filter((n) => n.type === kind).map((n) =>"
            " Object.fromEntries(n.widgets.map((w) => [w.name, w.value]))) }",
            kind,
        )


@pytest.fixture
def tab(canvas, server):
    """The tab of a page in either renderer; whatever still trains afterwards is stopped."""
    yield Tab(canvas, server)
    server.post("/queue", {"clear": True})
    while True:
        runs = [run for run in server.get("/trustopt/runs")["runs"] if run["status"] == "training"]
        if not runs:
            break
        for run in runs:
            server.post(f"/trustopt/runs/{quote(run['run_id'])}/stop", {})
        time.sleep(0.5)


def queue(canvas) -> None:
    canvas.page.evaluate("async () => { await app.queuePrompt(0) }")


def trained(canvas, name: str, **preset) -> dict:
    """Train a run in the page and return its graph; on return it has ended."""
    graph = training_graph(name, **{"steps": 6, **SHORT, **preset})
    canvas.draw(graph)
    queue(canvas)
    canvas.toast("Training finished")
    return graph


def test_a_training_appears_is_followed_and_ends_in_the_list(tab, request) -> None:
    name = name_of("listed", request)
    tab.toggle()
    tab.page.locator(".trustopt-runs-title").wait_for()
    tab.canvas.draw(training_graph(name, steps=ENDLESS, **SHORT))
    queue(tab.canvas)
    tab.cards(name).wait_for(timeout=240_000)
    tab.wait_for_step(name, 3)
    said = tab.cards(name).inner_text().replace("\u00a0", " ")
    assert "training · step" in said
    assert "SDXL · character · preset B" in said
    assert "autotrustgo · lora 4" in said
    tab.open(name)
    step = tab.step_of(name)
    tab.wait_for_step(name, step + 3)
    assert tab.curves(name) > 200
    resume = tab.button(name, "Resume")
    tab.page.wait_for_function(
        "(b) => b.title === 'It is training now'", arg=resume.element_handle()
    )
    assert resume.is_disabled()
    tab.server.post(f"/trustopt/runs/{quote(name)}/stop", {})
    tab.cards(name).get_by_text("stopped · step").wait_for(timeout=240_000)
    for text in ("Plot", "Load LoRA", "Resume", "Workflow"):
        tab.page.wait_for_function(
            "(b) => !b.disabled", arg=tab.button(name, text).element_handle()
        )


def test_a_lora_and_its_plot_come_into_the_graph(tab, request) -> None:
    name = name_of("used", request)
    trained(tab.canvas, name)
    tab.page.evaluate("() => app.graph.clear()")
    tab.toggle()
    tab.open(name)
    tab.press(name, "Load LoRA")
    assert f"{name}.safetensors" in tab.canvas.toast("added")
    tab.press(name, "Load LoRA")
    tab.press(name, "Plot")
    tab.page.wait_for_function("() => app.graph.nodes.length === 3")
    loaders = tab.nodes("LoraLoaderModelOnly")
    assert [widgets["lora_name"] for widgets in loaders] == [f"{name}.safetensors"] * 2
    assert tab.nodes("TrustOpt_SignalPreview")[0]["saved_runs"] == name
    places = tab.page.evaluate("() => app.graph.nodes.map((n) => [...n.pos].join())")
    assert len(set(places)) == 3  # none hides another
    listed = "(n) => n.type === 'LoraLoaderModelOnly' && n.widgets[0].options.values"
    values = tab.page.evaluate(f"() => app.graph.nodes.map({listed}).find(Boolean)")
    assert f"{name}.safetensors" in values  # what the server would accept


def test_resume_sets_up_the_trainer_of_the_open_workflow(tab, request) -> None:
    name = name_of("resumed", request)
    graph = training_graph(name, steps=ENDLESS, **SHORT)
    tab.canvas.draw(graph)
    queue(tab.canvas)
    tab.toggle()
    tab.cards(name).wait_for(timeout=240_000)
    tab.wait_for_step(name, 2)
    tab.server.post(f"/trustopt/runs/{quote(name)}/stop", {})
    tab.cards(name).get_by_text("stopped · step").wait_for(timeout=240_000)
    step = tab.step_of(name)
    tab.canvas.choose(name, "name", "something else")
    tab.open(name)
    tab.press(name, "Resume")
    assert f"after step {step}" in tab.canvas.toast(f"Ready to resume {name}")
    widgets = tab.canvas.widgets(name)
    assert (widgets["name"], widgets["resume"]) == (name, True)
    assert tab.page.evaluate(f"() => {{ {NODE} return nodeOf({json.dumps(name)}).selected }}")
    queue(tab.canvas)
    tab.cards(name).get_by_text("training · step").wait_for(timeout=240_000)
    tab.wait_for_step(name, step + 2)
    runs = [run["run_id"] for run in tab.server.get("/trustopt/runs")["runs"]]
    assert f"{name}_2" not in runs  # it went on, no second run began


def test_the_workflow_comes_back_and_is_set_up_to_resume(tab, request) -> None:
    name = name_of("again", request)
    graph = trained(tab.canvas, name)
    tab.canvas.draw(training_graph("another", **SHORT))
    tab.toggle()
    tab.open(name)
    tab.press(name, "Workflow")
    tab.canvas.wait(f"app.rootGraph.id === '{graph['id']}'")
    assert tab.canvas.widgets(name)["name"] == name
    # Its panel shows the run again: the chart belongs to this workflow.
    tab.canvas.wait(
        f"nodeOf({json.dumps(name)}).widgets.find((w) => w.name === 'live_panel')"
        ".element.textContent.includes('Training finished')"
    )

    tab.canvas.draw(training_graph("another", **SHORT))
    tab.press(name, "Resume")
    assert "raise the preset's steps" in tab.canvas.toast(f"Ready to resume {name}")
    tab.canvas.wait(f"app.rootGraph.id === '{graph['id']}'")
    widgets = tab.canvas.widgets(name)
    assert (widgets["name"], widgets["resume"]) == (name, True)


def test_a_trainer_inside_a_subgraph_is_found(tab, request) -> None:
    name = name_of("inside", request)
    tab.canvas.draw(training_graph(name, steps=6, **SHORT))
    tab.page.evaluate(
        "(title) => { const node = app.graph.nodes.find((n) => n.title === title);"
        " app.graph.convertToSubgraph(new Set([node])) }",
        name,
    )
    queue(tab.canvas)
    tab.canvas.toast("Training finished")
    tab.toggle()
    tab.open(name)
    tab.press(name, "Resume")
    tab.canvas.toast(f"Ready to resume {name}")
    assert tab.canvas.widgets(name)["resume"] is True


def test_what_is_missing_is_said_on_the_button(tab, request) -> None:
    name = name_of("bare", request)
    tab.canvas.draw(training_graph(name, steps=2, **SHORT))
    # Queued by a program: no workflow comes with it.
    history = tab.server.finished(tab.server.queue(prompt_of(tab.page)))
    assert history["status"]["status_str"] == "success"
    output = tab.server.folder / "output"
    (output / "loras" / f"{name}.safetensors").unlink()
    shutil.rmtree(output / "trustopt" / name / "state")
    tab.toggle()
    tab.open(name)
    reasons = {
        "Load LoRA": "Its LoRA is no longer in output/loras",
        "Resume": "It has no saved state to go on from",
        "Workflow": "Neither the run nor its LoRA holds a workflow",
    }
    for text, reason in reasons.items():
        made = tab.button(name, text)
        tab.page.wait_for_function(
            "([b, why]) => b.disabled && b.title === why", arg=[made.element_handle(), reason]
        )
    assert tab.button(name, "Plot").is_enabled()


def test_sample_pictures_are_in_the_list_and_whole_in_the_details(tab, pictures, request) -> None:
    name = name_of("pictured", request)
    graph = training_graph(name, steps=4, **SHORT)
    wishes = {"prompts": "a fox\na panda", "every": 2, "steps": 2}
    graph["nodes"]["samples"] = node("Samples", (400, 1000), **wishes)
    graph["links"].append(("samples", "samples", name, "samples"))
    tab.toggle()
    tab.canvas.draw(graph)
    queue(tab.canvas)
    tab.cards(name).wait_for(timeout=240_000)
    tab.cards(name).get_by_text("finished · step 4").wait_for(timeout=240_000)
    card = tab.cards(name)
    small = card.locator(".trustopt-run-pictures")
    tab.wait_for_pictures(small, "step_000004", 2)
    tab.page.screenshot(path=pictures / f"{name}.png")
    tab.open(name)
    strip = card.locator(".trustopt-samples")
    strip.get_by_text("step 4").wait_for()
    assert card.locator(".trustopt-run-pictures").is_hidden()
    tab.wait_for_pictures(strip, "step_000004", 2)
    strip.get_by_text("\u2039").click()
    strip.get_by_text("step 2").wait_for()
    tab.page.screenshot(path=pictures / f"{name} open.png")


@pytest.mark.parametrize("runs", [[], None])
def test_an_empty_list_says_how_to_fill_it(tab, runs) -> None:
    def answer(route) -> None:
        if runs is None:
            route.fulfill(status=500, json={"error": "the disk is gone"})
        else:
            route.fulfill(json={"runs": runs})

    tab.page.route("**/trustopt/runs", answer)
    tab.toggle()
    note = "the disk is gone" if runs is None else "No runs yet"
    tab.page.locator(".trustopt-runs-note").filter(has_text=note).wait_for()
    assert tab.cards().count() == 0
    if runs is None:
        tab.canvas.errors.clear()  # Chromium logs the status


def test_hundreds_of_runs_are_shown_a_page_at_a_time(tab) -> None:
    tab.page.route("**/trustopt/runs", lambda route: route.fulfill(json={"runs": MADE_UP}))
    tab.toggle()
    tab.cards("run 0").wait_for()
    tab.page.wait_for_timeout(300)
    first = tab.cards().count()
    assert 20 <= first <= 90
    assert tab.page.locator(".trustopt-runs-count").inner_text() == "300"
    for _ in range(20):
        tab.page.locator(".trustopt-runs-scroller").evaluate("(e) => e.scrollTo(0, e.scrollHeight)")
        tab.page.wait_for_timeout(100)
    assert tab.cards().count() == 300
    assert tab.page.get_by_role("button", name="Show more").is_hidden()

    tab.filter("flux EMONAVI style")
    tab.cards("run 1").wait_for()
    matching = [r for r in MADE_UP if r["family"] == "flux" and r["purpose"] == "style"]
    assert tab.page.locator(".trustopt-runs-count").inner_text() == f"{len(matching)} / 300"
    assert tab.cards().count() == min(len(matching), 30)
    assert tab.page.locator(".trustopt-run-name").first.inner_text() == "run 1"
    tab.filter("run 29")
    assert tab.page.locator(".trustopt-runs-count").inner_text() == "13 / 300"
    tab.filter("nothing like this")
    assert tab.page.get_by_text("No run matches the filter.").is_visible()
    tab.filter("broke")
    assert (
        tab.cards().first.locator(".trustopt-run-line").first.inner_text().startswith("broke off")
    )


def test_the_tab_keeps_its_place_when_it_is_closed_and_opened(tab) -> None:
    tab.page.route("**/trustopt/runs", lambda route: route.fulfill(json={"runs": MADE_UP}))
    tab.toggle()
    tab.filter("run 12")
    tab.page.locator(".trustopt-runs-count").filter(has_text="13 / 300").wait_for()
    tab.page.get_by_placeholder("Filter").press("Delete")  # not the graph's
    tab.toggle()
    assert tab.page.locator(".trustopt-runs").count() == 0
    tab.toggle()
    tab.page.locator(".trustopt-runs-count").filter(has_text="13 / 300").wait_for()
    assert tab.page.get_by_placeholder("Filter").input_value() == "run 12"


@pytest.mark.parametrize("palette", ["dark", "light"])
def test_the_list_is_readable_in_both_themes(server, pictures, palette) -> None:
    import trustopt_test_server as tools

    server.post("/settings", {"Comfy.ColorPalette": palette})
    try:
        with tools.browser_page(server) as page:
            tab = Tab(Canvas(page), server)
            page.route("**/trustopt/runs", lambda route: route.fulfill(json={"runs": MADE_UP}))
            tab.toggle()
            tab.cards("run 3").wait_for()
            page.screenshot(path=pictures / f"runs_{palette}.png")
            contrasts = page.evaluate(CONTRASTS)
            assert len(contrasts) > 3
            assert all(contrast >= 4.5 for contrast in contrasts.values()), contrasts
    finally:
        server.post("/settings", {"Comfy.ColorPalette": "dark"})


CONTRASTS = """
() => {
  const canvas = Object.assign(document.createElement('canvas'), { width: 1, height: 1 })
  const ctx = canvas.getContext('2d', { willReadFrequently: true })
  const rgb = (...layers) => {
    ctx.clearRect(0, 0, 1, 1)
    for (const color of layers) { ctx.fillStyle = color; ctx.fillRect(0, 0, 1, 1) }
    return [...ctx.getImageData(0, 0, 1, 1).data].slice(0, 3)
  }
  const light = (color) => {
    const [r, g, b] = color.map((c) => c / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const behind = (element) => {
    const layers = []
    for (let e = element; e; e = e.parentElement) {
      layers.unshift(getComputedStyle(e).backgroundColor)
    }
    return layers
  }
  const found = {}
  for (const name of ['title', 'count']) {
    found[name] = document.querySelector(`.trustopt-runs-${name}`)
  }
  for (const name of ['name', 'date', 'line', 'origin']) {
    found[name] = document.querySelector(`.trustopt-run-${name}`)
  }
  found.faulty = document.querySelector('[data-status="faulty"] .trustopt-run-line')
  return Object.fromEntries(Object.entries(found).map(([name, element]) => {
    const layers = behind(element)
    const [a, b] = [light(rgb(...layers)), light(rgb(...layers, getComputedStyle(element).color))]
    return [name, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)]
  }))
}
"""
"""WCAG 2 contrast of each kind of text in the list with what lies behind it."""
