"""What saved workflows rely on: node ids, sockets and the order of widgets only ever grow.

``released.json`` is what was released. A new input or output is appended there with its release;
nothing in it is moved or removed, because widgets are saved by position.
"""

import json
from pathlib import Path

import pytest

import nodes

RELEASED = json.loads(Path(__file__).with_name("released.json").read_text(encoding="utf-8"))


def today(node_id: str) -> dict[str, list[str]]:
    """Return a node's inputs as the frontend orders them, and its outputs."""
    node = nodes.NODE_CLASS_MAPPINGS[node_id]
    groups = node.INPUT_TYPES()
    outputs = zip(node.RETURN_NAMES, node.RETURN_TYPES, strict=True)
    found = {"outputs": [f"{name}: {kind}" for name, kind in outputs]}
    for group in ("required", "optional"):
        entries = groups.get(group, {})
        found[group] = list(entries)
        for name, (_, spec) in entries.items():
            for option in spec.get("options", []):
                if isinstance(option, dict):
                    inner = [n for entries in option["inputs"].values() for n in entries]
                    found[f"{name} = {option['key']}"] = inner
    return found


@pytest.mark.parametrize("node_id", sorted(RELEASED))
def test_nothing_released_is_moved_or_removed(pack_nodes, node_id) -> None:
    now = today(node_id)
    for part, names in RELEASED[node_id].items():
        assert now[part][: len(names)] == names, part


def test_every_node_is_written_down(pack_nodes) -> None:
    assert pack_nodes == set(RELEASED)
