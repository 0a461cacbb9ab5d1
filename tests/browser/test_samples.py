"""Sample pictures in real pages, in both renderers: they appear, on wish, and after a reload."""

import json
import urllib.request
from urllib.parse import quote

import pytest
from trustopt_test_graphs import node, training_graph
from trustopt_test_panels import name_of

SHORT = {"batch_size": 1, "resolution": 64, "rank": 4, "save_every": 0}
ENDLESS = 100_000
"""More steps than any test waits for: such a run ends when it is told to."""

STRIP = """
  const stripOf = (title) => panelOf(title).querySelector('.trustopt-samples')
  const shownOf = (title) => {
    const images = [...stripOf(title).querySelectorAll('img')]
    const isShown = stripOf(title).style.display !== 'none'
    return isShown && images.length && images.every((i) => i.complete && i.naturalWidth)
      ? images.map((i) => decodeURIComponent(new URL(i.src).pathname.split('/').pop())) : []
  }
"""


def sampling_graph(name: str, *, steps: int, **samples) -> dict:
    """Return a graph that trains with sample pictures."""
    graph = training_graph(name, steps=steps, **SHORT)
    graph["nodes"]["images"]["widgets"]["trigger_word"] = "twemoji"
    given = {"prompts": "a [trigger] fox\na panda", "every": 0, "steps": 2, **samples}
    graph["nodes"]["samples"] = node("Samples", (400, 1000), **given)
    graph["links"].append(("samples", "samples", name, "samples"))
    return graph


class Strip:
    """The row of sample pictures in a panel."""

    def __init__(self, live, title: str) -> None:
        self.live, self.title = live, title

    def shown(self) -> list[str]:
        """Return the files shown, once all are loaded; none for a hidden row."""
        return self.live.read(f"{STRIP} return shownOf({json.dumps(self.title)})")

    def wait_for_step(self, at_least: int) -> int:
        """Wait for the pictures of a step or a later one; return their step."""
        title = json.dumps(self.title)
        step = f"Number((shownOf({title})[0] ?? 'step_-1_').split('_')[1])"
        self.live.wait(f"(() => {{ {STRIP} return {step} >= {at_least} }})()")
        return int(self.shown()[0].split("_")[1])


def test_samples_appear_on_wish_and_after_a_reload(live, server, pictures, request) -> None:
    name = name_of("samples", request)
    graph, strip = sampling_graph(name, steps=ENDLESS), Strip(live, name)
    live.canvas.draw(graph)
    live.queue()
    assert strip.wait_for_step(0) == 0
    assert strip.shown() == ["step_000000_01.png", "step_000000_02.png"]
    titles = live.read(
        f"{STRIP} return [...stripOf('{name}').querySelectorAll('img')].map((i) => i.alt)"
    )
    assert titles == ["a twemoji fox", "a panda"]

    live.wait_for_step(name, 2)
    live.press(name, "Sample now")
    step = strip.wait_for_step(1)
    folder = server.folder / "output" / "trustopt" / name / "samples"
    assert (folder / f"step_{step:06d}_02.png").is_file()
    live.wait_for_step(name, step + 1)  # it goes on
    assert not live.read(f"return buttonOf('{name}', 'Sample now').disabled")
    live.press(name, "‹")
    assert strip.wait_for_step(0) == 0
    live.canvas.page.screenshot(path=pictures / f"{name}.png")

    live.canvas.reload()
    live.canvas.draw(graph)
    assert strip.wait_for_step(step) == step
    live.press(name, "‹")
    assert strip.wait_for_step(0) == 0
    live.press(name, "›")
    assert strip.wait_for_step(step) == step
    assert live.read(f"return buttonOf('{name}', 'Sample now').style.display") == ""

    live.press(name, "Stop and keep")
    live.wait(f"statusOf('{name}').startsWith('Training stopped')")
    last = live.read(f"return stepOf('{name}')")
    assert strip.wait_for_step(step + 1) == last
    live.wait(f"nodeOf('{name}').imgs?.length || document.querySelector('img[src*=\"grid.png\"]')")
    live.canvas.page.screenshot(path=pictures / f"{name} ended.png")


def test_without_a_samples_node_nothing_speaks_of_samples(live, request) -> None:
    name = name_of("no samples", request)
    live.canvas.draw(training_graph(name, steps=3, **SHORT))
    live.queue()
    live.wait(f"statusOf('{name}').startsWith('Training finished')")
    assert live.read(f"return buttonOf('{name}', 'Sample now').style.display") == "none"
    assert live.read(f"{STRIP} return stripOf('{name}').style.display") == "none"


def get(server, path: str) -> tuple[str, bytes]:
    with urllib.request.urlopen(server.url + path, timeout=120) as answer:
        return answer.headers["Content-Type"], answer.read()


def test_sample_pictures_are_served_and_nothing_else(live, server, request) -> None:
    name = name_of("served", request)
    live.canvas.draw(sampling_graph(name, steps=2))
    live.queue()
    live.wait(f"statusOf('{name}').startsWith('Training finished')")
    run = f"/trustopt/runs/{quote(name)}"
    listed = server.get(run)["samples"]
    assert [(p["file"], p["step"]) for p in listed] == [
        (f"step_00000{step}_0{n}.png", step) for step in (0, 2) for n in (1, 2)
    ]
    folder = server.folder / "output" / "trustopt" / name / "samples"
    for file in ("grid.png", listed[0]["file"]):
        kind, content = get(server, f"{run}/samples/{file}")
        assert (kind, content) == ("image/png", (folder / file).read_bytes())
    kind, content = get(server, f"{run}/samples/grid.png?size=64")
    assert (kind, content[:2]) == ("image/jpeg", b"\xff\xd8")

    (folder / "out.png").symlink_to(server.folder / "output" / "trustopt" / name / "job.json")
    (folder / "broken.png").write_bytes(b"no picture")
    for file in ("index.json", "nothing.png", "..%2Fjob.json", "%2e%2e%2fgrid.png", "out.png"):
        assert server.status_of(f"{run}/samples/{file}") == 404, file
    assert server.status_of("/trustopt/runs/nothing/samples/grid.png") == 404
    assert server.status_of(f"{run}/samples/broken.png?size=64") == 404
    for size in ("0", "-5", "x", "5000"):
        assert server.status_of(f"{run}/samples/grid.png?size={size}") == 400, size


ZOOM = """
  app.canvas.ds.scale = 0.6
  app.canvas.ds.offset = [-250, 120]
  app.canvas.setDirty(true, true)
"""


@pytest.mark.parametrize("palette", ["dark", "light"])
def test_pictures_are_seen_in_both_themes(live, server, pictures, request, palette) -> None:
    """Leaves screenshots to look at: the row of the newest pictures, and the grid of all."""
    name = name_of("theme", request)
    server.post("/settings", {"Comfy.ColorPalette": palette})
    try:
        live.canvas.reload()
        live.canvas.draw(sampling_graph(name, steps=40, every=20))
        live.read(ZOOM)
        live.queue()
        live.wait(f"statusOf('{name}').startsWith('Training finished')")
        assert Strip(live, name).wait_for_step(40) == 40
        box = live.canvas.page.locator(".trustopt-thumbs img").first.bounding_box()
        assert box["height"] > 20
        live.canvas.page.wait_for_timeout(3000)
        live.canvas.page.screenshot(path=pictures / f"{name}.png")
    finally:
        server.post("/settings", {"Comfy.ColorPalette": "dark"})
