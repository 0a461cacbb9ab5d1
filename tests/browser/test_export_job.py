"""Export Job in the browser: the file, what the node says of it, and how it looks."""

from trustopt_test_graphs import node, training_graph
from trustopt_test_panels import name_of

EXPORT = "Export Job"


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
    job = server.folder / "output" / "trustopt_jobs" / name / "job.toml"
    while not job.is_file():  # until the test's own limit of time
        canvas.page.wait_for_timeout(200)
    # Newer frontends take the text away when the run ends; the extension shows it again.
    canvas.page.wait_for_timeout(2000)
    shown = canvas.page.get_by_text("20 pictures copied").first
    assert f"trustopt train {job} --dry-run" in " ".join(shown.inner_text().split())
    assert "steps = 4\n" in job.read_text(encoding="utf-8")
    assert len(list((job.parent / "images").glob("*.png"))) == 20
    assert not (server.folder / "output" / "trustopt" / name).exists()
    canvas.page.screenshot(path=pictures / f"{name}.png")
