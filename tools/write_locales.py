"""Write locales/en/nodeDefs.json from the nodes' schemas; run it after changing a text of a node.

python tools/write_locales.py

Needs ComfyUI (``COMFYUI_PATH``) and its Python, as tests/browser does. Names what the other
languages have to translate anew; ``tests/unit/test_locales.py`` fails until every key is there.
"""

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ENGLISH = ROOT / "locales" / "en" / "nodeDefs.json"
MODULE = "custom_nodes.trustopt"

Entries = dict[str, dict[str, str]]


def definitions(info: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the texts of nodes under the keys by which ComfyUI's frontend looks them up.

    Args:
        info: What ComfyUI says of the nodes, by id: ``/object_info``.
    """
    return {name: definition(node) for name, node in sorted(info.items())}


def definition(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return one node's texts."""
    inputs: Entries = {}
    for group in ("required", "optional"):
        for name, entry in node["input"].get(group, {}).items():
            inputs |= input_texts(name, entry)
    outputs = zip(node["output_name"], node["output_tooltips"], strict=True)
    return {
        "display_name": node["display_name"],
        "description": node["description"],
        "inputs": inputs,
        "outputs": {str(i): texts(name, tooltip) for i, (name, tooltip) in enumerate(outputs)},
    }


def input_texts(name: str, entry: list[Any]) -> Entries:
    """Return the texts of an input and of those it brings along.

    An input ``lr`` of the dynamic list ``optimizer`` is looked up as ``optimizer_lr``, whatever
    is chosen. Where a choice has another tooltip than the first one that has the input, it is
    under ``optimizer_<choice>_lr``: the frontend does not know that key, web/tooltips.js does.
    """
    kind, options = entry
    found = {name: texts(name, options.get("tooltip", ""))}
    if kind == "COMFY_DYNAMICCOMBO_V3":
        for choice, inner, tooltip in dynamic_inputs(options):
            first = found.setdefault(f"{name}_{inner}", texts(inner, tooltip))
            if tooltip != first["tooltip"]:
                found[f"{name}_{choice}_{inner}"] = {"tooltip": tooltip}
    if kind == "COMFY_AUTOGROW_V3":
        for socket, tooltip in growing_inputs(options["template"]):
            found[f"{name}_{socket}"] = {"tooltip": tooltip}
    return found


def dynamic_inputs(options: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Return (choice, input, tooltip) of a dynamic list."""
    for option in options["options"]:
        for entries in option["inputs"].values():
            for inner, (_, inner_options) in entries.items():
                yield option["key"], inner, inner_options.get("tooltip", "")


def growing_inputs(template: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Return (input, tooltip) of sockets that appear as they are needed; their names stay."""
    for entries in template["input"].values():
        for _, options in entries.values():
            for number in range(template["max"]):
                yield f"{template['prefix']}{number}", options.get("tooltip", "")


def texts(name: str, tooltip: str) -> dict[str, str]:
    """Return the texts of an input or output."""
    return {"name": name, "tooltip": tooltip}


def flat(texts: Mapping[str, Any], path: str = "") -> dict[str, str]:
    """Return nested texts by their dotted keys."""
    found: dict[str, str] = {}
    for key, value in texts.items():
        inner = f"{path}.{key}" if path else key
        found |= {inner: value} if isinstance(value, str) else flat(value, inner)
    return found


def main() -> None:
    """Ask a running ComfyUI what the nodes say, write it down, and tell what is new."""
    sys.path += [str(ROOT), str(ROOT / "tests" / "browser")]
    from comfy_server import comfy_server

    from tests.__main__ import find_comfyui

    comfyui = find_comfyui()
    if comfyui is None:
        sys.exit("ComfyUI was not found: set COMFYUI_PATH to its folder")
    before = flat(json.loads(ENGLISH.read_text(encoding="utf-8"))) if ENGLISH.exists() else {}
    with (
        tempfile.TemporaryDirectory() as folder,
        comfy_server(comfyui, Path(folder) / "comfyui") as server,
    ):
        info = server.get("/object_info")
    own = {name: node for name, node in info.items() if node["python_module"] == MODULE}
    written = definitions(own)
    text = json.dumps(written, indent=2, ensure_ascii=False) + "\n"
    ENGLISH.write_text(text, encoding="utf-8", newline="\n")
    for key, value in flat(written).items():
        if before.get(key) != value:
            print(f"translate {key}: {value}")


if __name__ == "__main__":
    main()
