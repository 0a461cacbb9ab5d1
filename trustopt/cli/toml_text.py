"""Plain values written as TOML, which Python reads but does not write."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")
"""Keys that need no quotes."""


def toml_value(value: Any) -> str:
    """Return a value on one line, such that reading it gives the same value.

    Args:
        value: A text, a number, a boolean, a list, or a mapping with texts as keys.

    Raises:
        TypeError: If TOML has no such value, None included.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # TOML's escapes are JSON's, but for DEL, which TOML does not allow as it is.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if isinstance(value, Mapping):
        pairs = [f"{toml_key(key)} = {toml_value(item)}" for key, item in value.items()]
        return "{ " + ", ".join(pairs) + " }" if pairs else "{}"
    raise TypeError(f"TOML has no value for {value!r} ({type(value).__name__})")


def toml_key(key: str) -> str:
    """Return a key, quoted where it must be."""
    return key if _BARE.fullmatch(key) else toml_value(key)
