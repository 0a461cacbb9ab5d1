"""The live panel in real pages, in both renderers: it follows, asks, survives a reload."""

import json
import time
from urllib.parse import quote

import numpy as np
import pytest
from trustopt_test_graphs import training_graph

from trustopt.signals.smoothing import auto_beta, ema

SHORT = {"batch_size": 1, "resolution": 64, "rank": 4, "save_every": 0}
ENDLESS = 100_000
"""More steps than any test waits for: such a run ends when it is told to."""

PANEL = """
  const panelOf = (title) => nodeOf(title).widgets.find((w) => w.name === 'live_panel').element
  const statusOf = (title) => panelOf(title).querySelector('.trustopt-status').textContent
  const stepOf = (title) => Number((statusOf(title).match(/step (\\d+)/) ?? [0, 0])[1])
  const buttonOf = (title, text) =>
    [...panelOf(title).querySelectorAll('button')].find((b) => b.textContent.includes(text))
"""

COLOURED = """
  const canvas = panelOf(TITLE).querySelector('canvas')
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)
  let count = 0
  for (let i = 0; i < data.length; i += 4) {
    const [r, g, b, a] = data.slice(i, i + 4)
    if (a > 200 && Math.max(r, g, b) - Math.min(r, g, b) > 60) count += 1
  }
  return count
"""
"""Pixels of a chart that are neither grey nor transparent: its curves."""


class Live:
    """Acts on the panels of a drawn graph."""

    def __init__(self, canvas, server) -> None:
        self.canvas, self.server = canvas, server

    def read(self, body: str):
        from trustopt_test_graphs import NODE

        return self.canvas.page.evaluate(f"() => {{ {NODE} {PANEL} {body} }}")

    def wait(self, condition: str, seconds: float = 240) -> None:
        from trustopt_test_graphs import NODE

        self.canvas.page.wait_for_function(
            f"() => {{ {NODE} {PANEL} return {condition} }}", timeout=seconds * 1000, polling=200
        )

    def queue(self) -> None:
        self.canvas.page.evaluate("async () => { await app.queuePrompt(0) }")

    def wait_for_step(self, title: str, step: int) -> None:
        self.wait(f"stepOf('{title}') >= {step}")

    def press(self, title: str, text: str) -> None:
        self.wait(f"!buttonOf('{title}', '{text}').disabled")
        self.read(f"buttonOf('{title}', '{text}').click()")

    def status(self, title: str) -> str:
        return self.read(f"return statusOf('{title}')")

    def curves(self, title: str) -> int:
        return self.read(COLOURED.replace("TITLE", json.dumps(title)))

    def show_first_step(self, title: str) -> str:
        """Point at the left end of a chart and return the legend."""
        self.wait(f"buttonOf('{title}', 'loss')")
        return self.read(f"""
          const chart = panelOf('{title}').querySelector('.trustopt-chart')
          const box = chart.getBoundingClientRect()
          const at = {{ clientX: box.left + 1, clientY: box.top + 20, bubbles: true }}
          chart.dispatchEvent(new PointerEvent('pointermove', at))
          return panelOf('{title}').querySelector('.trustopt-legend').textContent
        """)


@pytest.fixture
def live(canvas, server):
    """The panels; whatever still trains afterwards is stopped."""
    yield Live(canvas, server)
    server.post("/queue", {"clear": True})
    for run in server.get("/trustopt/runs")["runs"]:
        if run["status"] == "training":
            server.post(f"/trustopt/runs/{quote(run['run_id'])}/stop", {})
    while any(run["status"] == "training" for run in server.get("/trustopt/runs")["runs"]):
        time.sleep(0.5)


def name_of(what: str, request) -> str:
    """Return a run's name of its own for each test and renderer."""
    return f"{what} {request.node.callspec.id}"


def test_the_chart_grows_saves_and_stops_on_wish(live, server, request) -> None:
    name = name_of("wish", request)
    live.canvas.draw(training_graph(name, steps=ENDLESS, **SHORT))
    assert "chart appears when training starts" in live.read(
        f"return panelOf('{name}').textContent"
    )
    live.queue()
    live.wait_for_step(name, 4)
    assert "left" in live.status(name)
    assert "GiB" in live.status(name)
    live.wait(f"(() => {{ {COLOURED.replace('TITLE', json.dumps(name))} }})() > 200")
    assert "confidence" in live.show_first_step(name)

    live.press(name, "Save now")
    told = live.canvas.toast("LoRA saved")
    (copy,) = (server.folder / "output" / "loras").glob(f"{name}_step*.safetensors")
    assert copy.name in told
    step = live.read(f"return stepOf('{name}')")
    live.wait_for_step(name, step + 2)  # it goes on

    live.press(name, "Stop and keep")
    told = live.canvas.toast("Training stopped, LoRA kept")
    assert f"{name}.safetensors: step " in told
    assert (server.folder / "output" / "loras" / f"{name}.safetensors").is_file()
    live.wait(f"statusOf('{name}').startsWith('Training stopped')")
    assert live.read(f"return buttonOf('{name}', 'Stop and keep').disabled")
    saved = live.canvas.saved(name)
    assert "live_panel" not in saved["widgets_values_named"]
    assert len(saved["widgets_values"]) == len(saved["widgets_values_named"])  # nor an empty one


def test_a_reload_brings_the_chart_back(live, request) -> None:
    name = name_of("reload", request)
    graph = training_graph(name, steps=ENDLESS, **SHORT)
    live.canvas.draw(graph)
    live.queue()
    live.wait_for_step(name, 5)
    live.canvas.page.reload()
    live.canvas.wait("window.app?.vueAppReady && window.app?.graph")
    live.canvas.page.wait_for_timeout(1000)
    live.canvas.draw(graph)
    live.wait_for_step(name, 6)
    assert live.show_first_step(name).startswith("step 1")  # what came before the reload, too
    live.press(name, "Stop and keep")
    live.wait(f"statusOf('{name}').startsWith('Training stopped')")
    last = live.read(f"return stepOf('{name}')")

    other = training_graph(name, steps=ENDLESS, **SHORT)  # the same nodes in another workflow
    live.canvas.draw(other)
    live.canvas.page.wait_for_timeout(1000)
    assert live.status(name) == ""
    live.canvas.draw(graph)
    live.wait(f"statusOf('{name}').startsWith('Training stopped')")
    assert live.read(f"return stepOf('{name}')") == last
    assert live.show_first_step(name).startswith("step 1")


def test_trainers_of_one_graph_and_of_subgraphs_have_a_chart_each(live, request) -> None:
    first, second = name_of("one", request), name_of("two", request)
    live.canvas.draw(training_graph(first, second, steps=6, **SHORT))
    live.canvas.page.evaluate(
        "(title) => { const node = app.graph.nodes.find((n) => n.title === title);"
        " app.graph.convertToSubgraph(new Set([node])) }",
        second,
    )
    live.queue()
    for name in (first, second):
        live.wait(f"statusOf('{name}').startsWith('Training finished')")
        assert live.status(name) == f"Training finished · step 6 / 6 · {name}.safetensors"
    nodes = {run["run_id"]: run["node"] for run in live.server.get("/trustopt/runs")["runs"]}
    assert ":" not in nodes[first]
    assert ":" in nodes[second]


def test_series_and_scale_are_the_users_choice(live, request) -> None:
    name = name_of("series", request)
    graph = training_graph(name, steps=6, **SHORT)
    live.canvas.draw(graph)
    live.queue()
    live.wait(f"statusOf('{name}').startsWith('Training finished')")
    live.wait(f"buttonOf('{name}', 'grad_norm')")
    assert live.read(f"return buttonOf('{name}', 'grad_norm').style.display") == "none"
    live.read(f"buttonOf('{name}', '+ ').click()")
    live.read(f"buttonOf('{name}', 'grad_norm').click()")
    live.read(f"buttonOf('{name}', 'log').click()")
    pressed = f"buttonOf('{name}', '{{}}').getAttribute('aria-pressed') === 'true'"
    for text in ("grad_norm", "log", "loss", "danger"):
        assert live.read(f"return {pressed.format(text)}"), text
    live.read(f"buttonOf('{name}', 'danger').click()")
    live.canvas.page.wait_for_load_state("networkidle")
    live.canvas.draw(graph)  # a new panel, from the run's history
    live.wait(f"buttonOf('{name}', 'grad_norm')")
    assert live.read(f"return {pressed.format('grad_norm')}")
    assert live.read(f"return {pressed.format('log')}")
    assert not live.read(f"return {pressed.format('danger')}")


def test_a_removed_node_leaves_nothing(live, request) -> None:
    name = name_of("gone", request)
    live.canvas.draw(training_graph(name, steps=ENDLESS, **SHORT))
    live.queue()
    live.wait_for_step(name, 2)
    live.read(f"app.graph.remove(nodeOf('{name}'))")
    live.canvas.page.wait_for_timeout(1500)  # events go on without it
    assert live.canvas.page.locator(".trustopt-panel").count() == 0


# -- the parts that need no graph ----------------------------------------------------------------

IMPORT = "const {{ {} }} = await import('/extensions/trustopt/{}')"


def part(page, names: str, file: str, body: str, argument=None):
    """Run a piece of the extension's own code."""
    return page.evaluate(f"async (given) => {{ {IMPORT.format(names, file)}; {body} }}", argument)


def test_the_page_smooths_as_the_plots_do(page) -> None:
    values = np.random.default_rng(0).normal(1.0, 0.3, 500)
    values[[0, 7, 100, 499]] = np.nan
    given = [None if np.isnan(value) else float(value) for value in values]
    drawn = part(page, "smoothed", "panel/smoothing.js", "return smoothed(given)", given)
    expected = ema(values, auto_beta(int(np.isfinite(values).sum())))
    drawn = np.array([np.nan if value is None else value for value in drawn])
    np.testing.assert_allclose(drawn, expected, rtol=1e-9)


def test_rows_are_appended_replaced_and_missed(page) -> None:
    body = """
      const run = new RunData('x')
      const gaps = given.map((columns) => run.append(columns))
      run.replace({ step: [1, 2, 3], loss: [9, 8, 7] })
      return { gaps, steps: run.steps, columns: Object.fromEntries(run.columns),
               near: [0, 2.4, 2.6, 99].map((step) => run.rowNear(step)) }
    """
    rows = [
        {"step": [1, 2], "loss": [3.0, 2.0]},
        {"step": [3], "loss": [1.0], "trust": [0.5]},  # a series that begins later
        {"step": []},
        {"step": [3, 4], "loss": [1.5, 1.0]},  # resumed from step 2
        {"step": [7], "loss": [0.5]},  # steps 5 and 6 were missed
    ]
    seen = part(page, "RunData", "panel/run_data.js", body, rows)
    assert seen["gaps"] == [False, False, False, False, True]
    assert seen["steps"] == [1, 2, 3, 4, 7]
    assert seen["columns"] == {"loss": [9, 8, 7, 1.0, 0.5], "trust": [None] * 5}
    assert seen["near"] == [0, 1, 2, 4]


@pytest.mark.parametrize(
    ("values", "options", "low", "high", "ticks"),
    [
        ([0.61, 1.39], {}, 0.56, 1.44, [0.6, 0.8, 1.0, 1.2, 1.4]),
        ([0.1, 0.9], {}, 0.0, 0.95, [0.0, 0.2, 0.4, 0.6, 0.8]),
        ([0.2, 0.4], {"fixed": True}, 0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ([-0.2, 0.4], {"fixed": True}, -1.0, 1.0, [-1.0, -0.5, 0.0, 0.5, 1.0]),
        ([1e-4, 1e-4], {"fromZero": True}, 0.0, 1.06e-4, [0.0, 2e-5, 4e-5, 6e-5, 8e-5, 1e-4]),
        ([0.01, 10.0], {"log": True}, 0.0066, 15.2, [0.01, 0.1, 1.0, 10.0]),
        ([0.8, 1.2], {"log": True}, 0.71, 1.35, [0.8, 1.0, 1.2]),
        ([], {}, 0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
    ],
)
def test_axes_have_round_ticks(axes, values, options, low, high, ticks) -> None:
    scale = axes(values, options)
    assert scale["low"] == pytest.approx(low, abs=0.01 * (high - low))
    assert scale["high"] == pytest.approx(high, rel=0.01)
    assert scale["ticks"] == pytest.approx(ticks)
    assert scale["places"] == sorted(scale["places"])
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in scale["places"])


@pytest.fixture(scope="module")
def axes(server):
    """A function that makes the page's axis for values."""
    import trustopt_test_server as tools

    body = """
      const scale = makeScale([given.values], given.options)
      return { ...scale, places: scale.ticks.map(scale.place) }
    """
    with tools.browser_page(server) as page:

        def make(values, options):
            given = {"values": values, "options": options}
            return part(page, "makeScale", "panel/scales.js", body, given)

        yield make
