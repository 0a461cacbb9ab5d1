"""Plain values against the types of a config dataclass's fields, with an error people can act on.

TOML has whole numbers, numbers, booleans, strings, arrays and tables; the fields' annotations say
which of them a field takes, so that a job file needs no second list of types.
"""

import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ..config import from_mapping

_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def build(cls: type, values: Mapping[str, Any], where: str) -> Any:
    """Build a config dataclass from a table of a job file.

    Args:
        cls: The dataclass.
        values: The table.
        where: What errors call the table: ``job.toml [adapter]``.

    Raises:
        ValueError: If a key is unknown, or a value of another type or out of range.
    """
    hints = get_type_hints(cls)
    for name in values:
        if name not in hints:
            raise ValueError(f"{where} does not know {name!r}; it knows {', '.join(hints)}")
        if not accepts(hints[name], values[name]):
            raise ValueError(f"{where} {name} must be {wanted(hints[name])}, got {values[name]!r}")
    try:
        return from_mapping(cls, values)
    except ValueError as error:
        raise ValueError(f"{where} {error}") from error


def accepts(hint: Any, value: Any) -> bool:
    """Return whether a plain value may stand for an annotation."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any or value is None:
        return hint is Any or type(None) in arguments
    if origin is Literal:
        return value in arguments
    if origin in (Union, types.UnionType):
        return any(accepts(argument, value) for argument in arguments)
    if origin is tuple:
        return isinstance(value, list | tuple) and all(accepts(arguments[0], v) for v in value)
    if origin is not None:  # the mappings of AdapterConfig and the options of OptimizerConfig
        return isinstance(value, Mapping) and all(accepts(arguments[1], v) for v in value.values())
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def wanted(hint: Any) -> str:
    """Return what an annotation takes, in words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin in (Union, types.UnionType):
        return " or ".join(wanted(a) for a in arguments if a is not type(None))
    if origin is tuple:
        return f"an array, each {wanted(arguments[0])}"
    if origin is not None:
        return f"a table, each value {wanted(arguments[1])}"
    return _NAMES.get(hint, "a value")
