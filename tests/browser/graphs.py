"""Graphs drawn in an open page, and what the page makes of them."""

import uuid

from trustopt_test_server import IS_READY

EXAMPLE = "(example) emoji animals"

DRAW = """
async ({ nodes, links, id }) => {
  const graph = window.app.graph
  graph.clear()
  const made = {}
  for (const [name, { type, widgets, pos }] of Object.entries(nodes)) {
    const node = LiteGraph.createNode(type)
    if (!node) throw new Error(`no node ${type}`)
    graph.add(node)
    node.pos = pos
    for (const [key, value] of Object.entries(widgets)) {
      const widget = node.widgets.find((w) => w.name === key)
      if (!widget) throw new Error(`${type} has no widget ${key}`)
      widget.value = value
      widget.callback?.(value)
    }
    node.title = name
    made[name] = node
  }
  for (const [from, output, to, input] of links) {
    const out = made[from].outputs.findIndex((o) => o.name === output)
    const slot = made[to].inputs.findIndex((i) => i.name === input)
    if (out < 0 || slot < 0) throw new Error(`no link ${output} -> ${input}`)
    made[from].connect(out, made[to], slot)
  }
  const saved = JSON.parse(JSON.stringify(graph.serialize()))
  saved.id = id
  await window.app.loadGraphData(saved)
}
"""

NODE = """
  const nodeOf = (title) => {
    const graphs = [app.rootGraph, ...app.rootGraph.subgraphs.values()]
    return graphs.flatMap((g) => g.nodes).find((n) => n.title === title)
  }
"""


def training_graph(*trainers: str, folder: str = EXAMPLE, **preset) -> dict:
    """Return a graph that trains the tiny model: titles model, images, preset, and the trainers."""
    nodes = {
        "model": node("TinyModel", (0, 0), family="sdxl"),
        "images": node("LoadImageSet", (0, 200), folder=folder),
        "preset": node("Preset", (400, 0), **preset),
        "optimizer": node("Optimizer", (400, 700), optimizer="autotrustgo"),
    }
    links = [("images", "image_set", "preset", "image_set"), ("model", "model", "preset", "model")]
    for index, trainer in enumerate(trainers):
        nodes[trainer] = node("TrainLora", (800 + 500 * index, 0), name=trainer)
        links += [("model", name, trainer, name) for name in ("model", "clip", "vae")]
        links += [
            ("images", "image_set", trainer, "image_set"),
            ("preset", "plan", trainer, "plan"),
            ("optimizer", "optimizer", trainer, "optimizer"),
        ]
    return {"nodes": nodes, "links": links, "id": str(uuid.uuid4())}


def node(kind: str, pos: tuple[int, int], **widgets) -> dict:
    """Return one of the pack's nodes with the values of its widgets."""
    return {"type": f"TrustOpt_{kind}", "pos": list(pos), "widgets": widgets}


class Canvas:
    """An open page: draws graphs, acts as a user on them, keeps what went wrong."""

    def __init__(self, page) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._on_console)

    def reload(self) -> None:
        """Load the page anew, and wait until the frontend is ready."""
        self.page.reload()
        self.page.wait_for_function(IS_READY)

    def draw(self, graph: dict) -> None:
        """Replace the workflow."""
        self.page.evaluate(DRAW, graph)

    def widgets(self, title: str) -> dict:
        """Return a node's widgets as the user sees them."""
        return self.read(title, "Object.fromEntries(n.widgets.map((w) => [w.name, w.value]))")

    def labels(self, title: str) -> dict:
        """Return the labels of a node's widgets."""
        return self.read(title, "Object.fromEntries(n.widgets.map((w) => [w.name, w.label]))")

    def saved(self, title: str) -> dict:
        """Return a node as the workflow saves it."""
        return self.read(title, "JSON.parse(JSON.stringify(n.serialize()))")

    def queued(self, title: str) -> dict:
        """Return a node's inputs as the prompt has them."""
        return self.page.evaluate(
            f"async (title) => {{ {NODE} const n = nodeOf(title);"
            " const { output } = await app.graphToPrompt();"
            " const key = Object.keys(output).find((k) => k.split(':').pop() === String(n.id));"
            " return output[key].inputs }",
            title,
        )

    def choose(self, title: str, widget: str, value) -> None:
        """Set a widget as a user does: the value, then its callback."""
        self.page.evaluate(
            f"([title, name, value]) => {{ {NODE} const n = nodeOf(title);"
            " const w = n.widgets.find((w) => w.name === name); w.value = value;"
            " w.callback?.(value, app.canvas, n) }",
            [title, widget, value],
        )

    def wait(self, condition: str, seconds: float = 60) -> None:
        """Wait until a JavaScript expression holds; ``nodeOf(title)`` finds nodes."""
        self.page.wait_for_function(
            f"() => {{ {NODE} return {condition} }}", timeout=seconds * 1000, polling=200
        )

    def wait_for_value(self, title: str, widget: str, value) -> None:
        """Wait until a widget shows a value."""
        import json

        found = f"nodeOf('{title}').widgets.find((w) => w.name === '{widget}').value"
        self.wait(f"{found} === {json.dumps(value)}")

    def toast(self, part: str) -> str:
        """Wait for a message that holds ``part`` and return its text."""
        kinds = ".p-toast-message, [role=status], [role=alert]"  # of older and newer frontends
        message = self.page.locator(kinds).filter(has_text=part).last
        message.wait_for(timeout=60_000)
        return message.inner_text()

    def read(self, title: str, expression: str):
        """Return what a JavaScript expression says of the node ``n``."""
        return self.page.evaluate(
            f"(title) => {{ {NODE} const n = nodeOf(title); return {expression} }}", title
        )

    def _on_console(self, message) -> None:
        is_ours = "trustopt" in f"{message.location.get('url', '')} {message.text}".lower()
        if message.type == "error" and is_ours:
            self.errors.append(message.text)
