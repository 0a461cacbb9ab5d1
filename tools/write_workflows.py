"""Write workflows/*.json as ComfyUI's own frontend saves them, and their thumbnails.

Run it after changing a node.

python tools/write_workflows.py [--pictures FOLDER]

Needs ComfyUI (``COMFYUI_PATH``), its Python with playwright, and a Chromium, as tests/browser does.
"""

import argparse
import base64
import io
import json
import sys
import tempfile
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT), str(ROOT / "tests" / "browser")]

from comfy_server import browser_page, comfy_server  # noqa: E402
from PIL import Image  # noqa: E402
from workflow_sheets import SHEETS, Sheet  # noqa: E402

from tests.__main__ import find_comfyui  # noqa: E402
from trustopt import __version__  # noqa: E402

DRAW = """
(sheet) => {
  const graph = window.app.graph
  graph.clear()
  const nodes = sheet.nodes.map((spec) => {
    const node = LiteGraph.createNode(spec.type)
    if (!node) throw new Error(`no node ${spec.type}`)
    node.pos = spec.pos
    graph.add(node)
    if (spec.title) node.title = spec.title
    Object.assign(node.properties, spec.properties)
    Object.assign(node, spec.colors)
    for (const [name, value] of Object.entries(spec.widgets)) {
      const found = node.widgets.filter((w) => w.name === name || spec.type === 'MarkdownNote')
      if (!found.length) throw new Error(`${spec.type} has no widget ${name}`)
      found[0].value = value
    }
    return node
  })
  for (const [source, output, target, input] of sheet.links) {
    const from = nodes[source].outputs.findIndex((o) => o.name === output)
    const to = nodes[target].inputs.findIndex((i) => i.name === input)
    if (from < 0 || to < 0) throw new Error(`no link ${output} -> ${input} (${from}, ${to})`)
    nodes[source].connect(from, nodes[target], to)
  }
  nodes.forEach((node, i) => node.setSize(sheet.nodes[i].size))
  for (const { title, bounding, color } of sheet.groups) {
    const group = new LiteGraph.LGraphGroup(title)
    group.pos = bounding.slice(0, 2)
    group.size = bounding.slice(2)
    group.color = color
    graph.add(group)
  }
  return JSON.parse(JSON.stringify(graph.serialize()))
}
"""


def main() -> None:
    """Draw each sheet in a browser and save what the frontend makes of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=Path, help="also save a picture of each here")
    arguments = parser.parse_args()
    comfyui = find_comfyui()
    if comfyui is None:
        sys.exit("ComfyUI was not found: set COMFYUI_PATH to its folder")
    with (
        tempfile.TemporaryDirectory() as folder,
        comfy_server(comfyui, Path(folder) / "comfyui") as server,
    ):
        for make in SHEETS:
            # A page each: the frontend keeps a node's widget values beyond its graph.
            with browser_page(server) as page:
                save(page, make(), arguments.pictures)


def save(page: object, sheet: Sheet, pictures: Path | None) -> None:
    """Draw one sheet and save it."""
    workflow = finished(page.evaluate(DRAW, vars(sheet)), sheet)
    text = json.dumps(workflow, indent=2, ensure_ascii=False)
    path = ROOT / "workflows" / f"{sheet.name}.json"
    path.write_text(text + "\n", encoding="utf-8", newline="\n")
    save_thumbnail(page, path.with_suffix(".jpg"))
    if pictures:
        save_picture(page, sheet, pictures)


def finished(workflow: dict, sheet: Sheet) -> dict:
    """Return a workflow with what the frontend takes from elsewhere, the same at every run."""
    for node in workflow["nodes"]:
        if node["type"].startswith("TrustOpt_"):
            # By these ComfyUI offers to install the pack where it is missing.
            node["properties"] |= {"cnr_id": "trustopt", "ver": __version__}
    workflow["id"] = str(uuid.uuid5(uuid.NAMESPACE_URL, f"trustopt/{sheet.name}"))
    workflow["extra"] = {"ds": {"scale": 0.6, "offset": [120, 420]}}
    return workflow


SHOW_ALL = """
([width, height]) => {
  const { canvas, graph } = window.app
  const boxes = [...graph.nodes, ...graph.groups].map((item) => item.boundingRect ?? item.bounding)
  const [left, top] = [0, 1].map((i) => Math.min(...boxes.map((box) => box[i])))
  const [right, bottom] = [0, 1].map((i) => Math.max(...boxes.map((box) => box[i] + box[i + 2])))
  const scale = Math.min(width / (right - left), height / (bottom - top)) * 0.97
  canvas.ds.scale = scale
  canvas.ds.offset = [
    (width / scale - (right + left)) / 2,
    (height / scale - (bottom + top)) / 2,
  ]
  canvas.setDirty(true, true)
}
"""
THUMBNAIL = (960, 540)


def save_thumbnail(page: object, path: Path) -> None:
    """Save what the template dialog shows: the whole graph, without the page around it."""
    width, height = THUMBNAIL[0] * 2, THUMBNAIL[1] * 2
    page.set_viewport_size({"width": width, "height": height})
    page.wait_for_timeout(500)
    page.evaluate(SHOW_ALL, [width, height])
    page.wait_for_timeout(1500)
    graph = page.evaluate("() => document.querySelector('#graph-canvas').toDataURL('image/png')")
    picture = Image.open(io.BytesIO(base64.b64decode(graph.partition(",")[2]))).convert("RGB")
    picture.resize(THUMBNAIL, Image.Resampling.LANCZOS).save(path, quality=82, optimize=True)


def save_picture(page: object, sheet: Sheet, folder: Path) -> None:
    """Save a picture of the whole sheet."""
    page.set_viewport_size({"width": 2000, "height": 1300})
    page.evaluate("() => { window.app.canvas.ds.scale = 0.55; window.app.canvas.ds.offset ="
                  " [180, 480]; window.app.canvas.setDirty(true, true) }")  # fmt: skip
    page.wait_for_timeout(1500)
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{sheet.name}.png")


if __name__ == "__main__":
    main()
