"""The languages of this pack's messages: ``locales/<language>/phrases.json``."""

import json
from functools import lru_cache
from pathlib import Path

from ..trustopt.plan import ENGLISH, Phrase, Table, say

LOCALES = Path(__file__).parents[1] / "locales"


def table_of(language: str) -> Table:
    """Return the table of a language, by ComfyUI's name for it; English where there is none."""
    file = {path.parent.name: path for path in LOCALES.glob("*/phrases.json")}.get(language)
    return ENGLISH if file is None else _read(file)


def problem_text(error: ValueError, language: str) -> str:
    """Return what an error tells the user, in a language if it was raised with a phrase."""
    told = error.args[0] if error.args else ""
    return say(told, table_of(language)) if isinstance(told, Phrase) else str(error)


@lru_cache
def _read(file: Path) -> Table:
    return json.loads(file.read_text(encoding="utf-8"))
