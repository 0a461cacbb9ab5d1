"""Every node has a help page that names all its inputs and outputs, and nothing else."""

import re
from pathlib import Path

import pytest

import nodes

PAGES = Path(__file__).parents[2] / "web" / "docs"


def listed(page: str, heading: str) -> list[str]:
    """Return the names in the first column of the table below a heading."""
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)


def test_every_node_has_a_page_and_no_page_is_left_over(pack_nodes) -> None:
    assert {page.stem for page in PAGES.glob("*.md")} == pack_nodes


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.stem)
def test_a_page_names_what_the_node_has(pack_nodes, page) -> None:
    text = page.read_text(encoding="utf-8")
    schema = nodes.NODE_CLASS_MAPPINGS[page.stem].GET_SCHEMA()
    assert text.startswith(f"# {schema.display_name}\n")
    assert listed(text, "Inputs") == [entry.id for entry in schema.inputs]
    assert listed(text, "Outputs") == [entry.id or entry.display_name for entry in schema.outputs]
