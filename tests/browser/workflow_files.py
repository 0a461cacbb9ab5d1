"""The pack's workflows, and what the frontend makes of them."""

import json
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "workflows"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


def read(name: str) -> dict:
    """Return one of the pack's workflows."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def open_in(page, workflow: dict) -> None:
    """Open a workflow as the frontend does when a file is dropped on it."""
    page.evaluate("(workflow) => window.app.loadGraphData(workflow)", workflow)
    page.wait_for_timeout(1500)


def serialized(page) -> dict:
    """Return what the frontend would save now."""
    return page.evaluate("() => JSON.parse(JSON.stringify(window.app.graph.serialize()))")


def prompt_of(page) -> dict:
    """Return the graph as the frontend would queue it."""
    return page.evaluate("async () => (await window.app.graphToPrompt()).output")
