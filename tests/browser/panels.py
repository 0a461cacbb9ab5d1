"""The live panels of a drawn graph: what they show, and acting on them as a user."""

import json
import time
from urllib.parse import quote

from trustopt_test_graphs import NODE

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

POINT_LEFT = """
  const chart = panelOf(TITLE).querySelector('.trustopt-chart')
  const box = chart.getBoundingClientRect()
  const at = { clientX: box.left + 1, clientY: box.top + 20, bubbles: true }
  chart.dispatchEvent(new PointerEvent('pointermove', at))
  return panelOf(TITLE).querySelector('.trustopt-legend').textContent
"""
"""Points at the left end of a chart: the legend then tells that step's values."""


class Live:
    """Acts on the panels of a drawn graph."""

    def __init__(self, canvas, server) -> None:
        self.canvas, self.server = canvas, server

    def read(self, body: str):
        return self.canvas.page.evaluate(f"() => {{ {NODE} {PANEL} {body} }}")

    def wait(self, condition: str, seconds: float = 240) -> None:
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
        return self.read(POINT_LEFT.replace("TITLE", json.dumps(title)))

    def wait_for_first_step(self, title: str) -> None:
        """Wait until the left end of a chart is the run's first step."""
        self.wait(f"buttonOf('{title}', 'loss')")
        legend = f"(() => {{ {POINT_LEFT.replace('TITLE', json.dumps(title))} }})()"
        self.wait(f"/^step 1(?!\\d)/.test({legend})")

    def stop_all(self) -> None:
        """Stop whatever still trains."""
        self.server.post("/queue", {"clear": True})
        for run in self._training():
            self.server.post(f"/trustopt/runs/{quote(run['run_id'])}/stop", {})
        while self._training():
            time.sleep(0.5)

    def _training(self) -> list[dict]:
        runs = self.server.get("/trustopt/runs")["runs"]
        return [run for run in runs if run["status"] == "training"]


def name_of(what: str, request) -> str:
    """Return a run's name of its own for each test and renderer."""
    return f"{what} {request.node.callspec.id}"
