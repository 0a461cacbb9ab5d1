"""Widgets with a state of their own for "auto": ``-1`` in a number, ``auto`` in a list.

ComfyUI's number widgets cannot be empty. One rule for all of them is easier to remember than a
zero here and a blank there, and 0 often means "none".
"""

from collections.abc import Collection, Mapping
from typing import Any

from comfy_api.latest import io

AUTO = -1
"""An automatic number: no setting of this pack is negative."""

LARGEST_SEED = 2**53 - 1
"""The largest whole number a browser keeps exactly."""

ON_OFF = {"on": True, "off": False}
"""A switch with a third state, ``auto``."""


def auto_int(name: str, tooltip: str, *, most: int = 1_000_000, advanced: bool = False) -> Any:
    """Return a whole-number widget; ``-1`` is automatic."""
    return io.Int.Input(
        name,
        default=AUTO,
        min=AUTO,
        max=most,
        optional=True,
        advanced=advanced,
        tooltip=f"{tooltip} -1 = auto.",
    )


def auto_float(
    name: str, tooltip: str, *, most: float = 1e4, step: float = 0.01, advanced: bool = False
) -> Any:
    """Return a number widget; ``-1`` is automatic."""
    return io.Float.Input(
        name,
        default=float(AUTO),
        min=float(AUTO),
        max=most,
        step=step,
        round=step,
        optional=True,
        advanced=advanced,
        tooltip=f"{tooltip} -1 = auto.",
    )


def auto_choice(name: str, choices: Any, tooltip: str, *, advanced: bool = False) -> Any:
    """Return a list widget whose first entry is ``auto``, chosen at first."""
    options = list(dict.fromkeys(("auto", *choices)))
    return io.Combo.Input(
        name, options=options, default="auto", optional=True, advanced=advanced, tooltip=tooltip
    )


def picture_widgets(*, width: int = 1280, height: int = 960) -> list[Any]:
    """Return the widgets of a drawn picture: ``theme``, ``width``, ``height``."""
    theme = io.Combo.Input(
        "theme",
        options=["light", "dark"],
        default="dark",
        optional=True,
        tooltip="Light suits documents, dark suits the graph.",
    )
    sizes = [
        io.Int.Input(
            name,
            default=default,
            min=256,
            max=4096,
            step=16,
            optional=True,
            advanced=True,
            tooltip=f"{name.capitalize()} of the picture, pixels.",
        )
        for name, default in (("width", width), ("height", height))
    ]
    return [theme, *sizes]


def chosen(values: Mapping[str, Any], *, words: Collection[str] = ()) -> dict[str, Any]:
    """Return the values the user set, those on auto left out and switches as booleans.

    Args:
        values: Of the widgets, by name.
        words: Names whose "on" and "off" are words to what is set, too.
    """
    return {
        name: ON_OFF.get(value, value) if isinstance(value, str) and name not in words else value
        for name, value in values.items()
        if value not in (AUTO, "auto", None)
    }
