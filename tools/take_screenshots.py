"""Take the README's screenshots: the quickstart, trained, in English and Japanese.

python tools/take_screenshots.py [--folder docs/images] [--classic] [--languages en ja]

Needs ComfyUI (``COMFYUI_PATH``), its Python with playwright, and a Chromium, as tests/browser does.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT), str(ROOT / "tests" / "browser")]

from comfy_server import ComfyServer, browser_page, comfy_server  # noqa: E402

from tests.__main__ import find_comfyui  # noqa: E402

LANGUAGES = {"en": "quickstart", "ja": "quickstart_ja"}
"""ComfyUI's language -> name of its picture."""

VIEW = (850, -95, 1545, 1310)
"""Left, top, width and height of what is shown, in the workflow's own units."""

SCALE = 0.9
EDGE = 100
"""Room for ComfyUI's own bars, pixels."""

RUN = """
async () => {
  const ended = new Promise((done) => {
    for (const name of ['execution_success', 'execution_error'])
      window.app.api.addEventListener(name, () => done(name))
  })
  await window.app.queuePrompt(0)
  return await ended
}
"""

LOOK = """
([x, y, scale]) => {
  window.app.extensionManager.toast.removeAll()
  window.app.canvas.ds.scale = scale
  window.app.canvas.ds.offset = [x, y]
  window.app.canvas.setDirty(true, true)
}
"""


def main() -> None:
    """Run the quickstart once in each language and save a picture of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--classic", action="store_true", help="not in Nodes 2.0")
    parser.add_argument("--languages", nargs="+", choices=LANGUAGES, default=[*LANGUAGES])
    arguments = parser.parse_args()
    comfyui = find_comfyui()
    if comfyui is None:
        sys.exit("ComfyUI was not found: set COMFYUI_PATH to its folder")
    for language in arguments.languages:
        # A server each: what has run once is not run again.
        with (
            tempfile.TemporaryDirectory() as folder,
            comfy_server(comfyui, Path(folder) / "comfyui") as server,
        ):
            server.post("/settings", {"Comfy.Locale": language})
            path = arguments.folder / f"{LANGUAGES[language]}.jpg"
            take(server, path, vue_nodes=not arguments.classic)


def take(server: ComfyServer, path: Path, *, vue_nodes: bool) -> None:
    """Train the quickstart in a page and save a picture of it."""
    text = (ROOT / "workflows" / "quickstart_tiny.json").read_text(encoding="utf-8")
    left, top, width, height = VIEW
    clip = {"x": EDGE, "y": EDGE, "width": width * SCALE, "height": height * SCALE}
    with browser_page(server, vue_nodes=vue_nodes) as page:
        page.set_viewport_size({k: int(clip[k]) + 2 * EDGE for k in ("width", "height")})
        page.evaluate("(workflow) => window.app.loadGraphData(workflow)", json.loads(text))
        page.wait_for_timeout(2000)
        ended = page.evaluate(RUN)
        if ended != "execution_success":
            sys.exit(f"the quickstart ended with {ended}\n{server.log[-3000:]}")
        page.wait_for_timeout(15_000)  # until ComfyUI's own notice of it is gone
        page.evaluate(LOOK, [EDGE / SCALE - left, EDGE / SCALE - top, SCALE])
        page.wait_for_timeout(2000)
        page.screenshot(path=path, clip=clip, type="jpeg", quality=85)


if __name__ == "__main__":
    main()
