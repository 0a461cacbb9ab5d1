"""Export Job in the browser: the file, what the node says of it, and how it looks."""

from trustopt_test_graphs import node, training_graph
from trustopt_test_panels import name_of

EXPORT = "Export Job"
TEXT = "n.widgets.map((w) => String(w.value ?? '')).find((t) => t.includes('trustopt train')) ?? ''"


def export_graph(name: str) -> dict:
    """Return the tiny training's graph with an export in the trainer's place."""
    graph = training_graph(name, steps=4, rank=4, resolution=64)
    graph["nodes"][EXPORT] = node("ExportJob", (800, 0), name=name)
    del graph["nodes"][name]
    graph["links"] = [
        [EXPORT if place == name else place for place in link] for link in graph["links"]
    ]
    return graph


def test_a_graph_is_exported_without_training(canvas, server, pictures, request) -> None:
    name = name_of("export", request)
    canvas.draw(export_graph(name))
    canvas.page.get_by_role("button", name="Run", exact=True).first.click()
    quoted = EXPORT.replace("'", "")
    canvas.wait(f"(n => {TEXT})(nodeOf('{quoted}')) !== ''", seconds=120)
    job = server.folder / "output" / "trustopt_jobs" / name / "job.toml"
    text = canvas.read(EXPORT, TEXT)
    assert str(job) in text.replace("\\", "")
    assert "12 pictures copied" in text
    assert "steps = 4\n" in job.read_text(encoding="utf-8")
    assert len(list((job.parent / "images").glob("*.png"))) == 12
    assert not (server.folder / "output" / "trustopt" / name).exists()
    canvas.page.screenshot(path=pictures / f"{name}.png")
