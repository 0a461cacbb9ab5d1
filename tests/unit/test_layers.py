"""Import direction: what each layer may import. README.md draws the same picture."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BOTTOM = {"addresses", "config", "fonts", "host", "plan"}
STAGES = {"data", "diffusion", "adapters", "optim", "signals"}
ALLOWED = {  # package of trustopt -> packages of trustopt it may import
    **dict.fromkeys(STAGES, BOTTOM),
    "train": BOTTOM | STAGES,
    "hosts": BOTTOM | STAGES | {"train"},
    "cli": BOTTOM | STAGES | {"train", "hosts"},
    "addresses": set(),
    "config": set(),
    "fonts": set(),
    "host": set(),
    "plan": {"config"},
}
COMFY = {"comfy", "comfy_api", "comfy_execution", "comfy_extras", "folder_paths", "nodes", "server"}
CORE = sorted((ROOT / "trustopt").rglob("*.py"))
NODES = sorted((ROOT / "nodes").rglob("*.py"))


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> list[tuple[int, str]]:
    """Return (relative level, dotted name) of every import in a file, inside functions too."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.module:
                found.append((node.level, node.module))
            else:
                found += [(node.level, alias.name) for alias in node.names]
    return found


def part_of(path: Path) -> str:
    """Return the package (or bottom module) of trustopt a file belongs to."""
    inside = path.relative_to(ROOT / "trustopt")
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


def core_imports(path: Path) -> set[str]:
    """Return the packages of trustopt a core file imports, its own left out."""
    depth = len(path.relative_to(ROOT / "trustopt").parts)
    return {name.split(".")[0] for level, name in imports(path) if level == depth and level > 0} - {
        part_of(path)
    }


def test_there_are_files() -> None:
    assert {part_of(p) for p in CORE} >= STAGES | BOTTOM | {"train", "hosts", "cli"}
    assert len(NODES) > 5


@pytest.mark.parametrize("path", CORE, ids=relative)
def test_core_is_free_of_comfyui(path: Path) -> None:
    for level, name in imports(path):
        assert level > 0 or name.split(".")[0] not in COMFY | {"trustopt"}, name


@pytest.mark.parametrize("path", CORE, ids=relative)
def test_core_imports_only_below(path: Path) -> None:
    part = part_of(path)
    if part in ("__init__", "__main__"):
        return
    names = core_imports(path) - {"__version__"}
    assert names <= ALLOWED[part], f"{part} may not import {names - ALLOWED[part]}"


@pytest.mark.parametrize("path", NODES, ids=relative)
def test_nodes_import_the_core_relatively(path: Path) -> None:
    for level, name in imports(path):
        assert level > 0 or name.split(".")[0] != "trustopt", name


@pytest.mark.parametrize("path", sorted((ROOT / "nodes" / "bridge").rglob("*.py")), ids=relative)
def test_bridge_knows_no_node(path: Path) -> None:
    for level, name in imports(path):
        assert level != 2, f"from ..{name}: the bridge is below the nodes"


def test_shipped_code_has_nothing_a_registry_scanner_flags() -> None:
    flagged = ("subprocess", "pickle", "os.system", "__import__")
    for path in [*CORE, *NODES, ROOT / "__init__.py"]:
        text = path.read_text(encoding="utf-8")
        names = {name.split(".")[0] for _, name in imports(path)}
        assert not names & {"subprocess", "pickle", "marshal", "ctypes"}, path
        assert not any(word + "(" in text for word in (*flagged, "eval", "exec")), path
