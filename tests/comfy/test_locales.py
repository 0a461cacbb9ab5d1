"""locales/en/nodeDefs.json is what the nodes say today."""

import importlib.util
import json
from pathlib import Path

import nodes

ROOT = Path(__file__).parents[2]

spec = importlib.util.spec_from_file_location("write_locales", ROOT / "tools" / "write_locales.py")
write_locales = importlib.util.module_from_spec(spec)
spec.loader.exec_module(write_locales)


def test_the_english_texts_are_those_of_the_nodes(pack_nodes) -> None:
    info = {name: nodes.NODE_CLASS_MAPPINGS[name].GET_NODE_INFO_V1() for name in pack_nodes}
    written = json.loads(write_locales.ENGLISH.read_text(encoding="utf-8"))
    assert written == write_locales.definitions(info), "run python tools/write_locales.py"


def test_every_text_is_there(pack_nodes) -> None:
    for key, text in write_locales.flat(json.loads(write_locales.ENGLISH.read_text())).items():
        assert text, f"{key} is empty: give it a tooltip"
