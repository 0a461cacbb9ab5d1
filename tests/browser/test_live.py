"""The live panel in real pages, in both renderers: it follows, asks, survives a reload."""

import json

import numpy as np
import pytest
from trustopt_test_graphs import training_graph
from trustopt_test_panels import COLOURED, name_of

from trustopt.signals.smoothing import auto_beta, ema

SHORT = {"batch_size": 1, "resolution": 64, "rank": 4, "save_every": 0}
ENDLESS = 100_000
"""More steps than any test waits for: such a run ends when it is told to."""


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
    live.canvas.reload()
    live.canvas.draw(graph)
    live.wait_for_step(name, 6)
    live.wait_for_first_step(name)  # what came before the reload, too, once it is fetched
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
    live.wait_for_first_step(name)


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


def test_a_new_run_does_not_show_the_curves_of_the_last(page) -> None:
    body = """
      const { Choices } = await import('/extensions/trustopt/panel/choices.js')
      const { RunData } = await import('/extensions/trustopt/panel/run_data.js')
      const panel = document.createElement('div')
      panel.style.cssText = 'position: fixed; inset: 0; width: 400px; height: 300px'
      const view = new ChartView(panel, new Choices())
      view.chart.style.cssText = 'position: relative; width: 400px; height: 200px'
      panel.append(view.chart, view.legend)
      document.body.append(panel)
      const drawn = (run) => {
        view.show(run)
        view.redraw()
        const { width, height } = view.canvas
        const pixels = width ? view.canvas.getContext('2d').getImageData(0, 0, width, height) : null
        const isInked = Boolean(pixels?.data.some((value) => value > 0))
        return [isInked, view.legend.childElementCount > 0, view.idle.style.display !== 'none']
      }
      const run = new RunData('first')
      run.append({ step: [1, 2, 3], loss: [3, 2, 1] })
      const seen = [drawn(run), drawn(new RunData('second')), drawn(run)]
      panel.remove()
      return seen
    """
    seen = part(page, "ChartView", "panel/chart_view.js", body)
    assert seen == [[True, True, False], [False, False, True], [True, True, False]]


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
