"""The signals file: one JSON object per line, one line per step.

.. code-block:: text

    {"step": 1, "loss": 0.1375, "lr": 0.0001, "grad_norm": 0.42, "opt/danger": 0.03}
    {"step": 2, "loss": "NaN", "lr": 0.0001, "skipped": 1.0}
    {"step": 2, "event": "save"}

A series without a value at a step is absent from its line. JSON has no NaN or infinity, so a
recorded value that is not finite is the string ``"NaN"``, ``"Infinity"`` or ``"-Infinity"``, which
Python's ``float()`` and JavaScript's ``Number()`` both read. Numbers are written with the digits
that give the same float64 back. A line with an ``event`` is a mark, not a step.
"""

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .table import Event

logger = logging.getLogger("trustopt")


@dataclass
class Lines:
    """A signals file, read."""

    rows: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    """``(step, values)``, steps strictly increasing."""
    events: list[Event] = field(default_factory=list)
    num_unreadable: int = 0
    """Lines that are not ours, without a torn last one."""

    def drop_from(self, step: int) -> None:
        """Forget everything recorded at ``step`` or later."""
        while self.rows and self.rows[-1][0] >= step:
            self.rows.pop()
        self.events = [event for event in self.events if event.step < step]


def encode_row(step: int, values: Mapping[str, float]) -> bytes:
    """Return the line of one step, newline included."""
    return _encode({"step": step, **{name: _to_json(value) for name, value in values.items()}})


def encode_event(event: Event) -> bytes:
    """Return the line of one event, newline included."""
    return _encode({"step": event.step, "event": event.name})


def _encode(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _to_json(value: float) -> float | str:
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def encode(lines: Lines) -> bytes:
    """Return a whole file; an event stands right after its step."""
    records = [(step, 0, encode_row(step, values)) for step, values in lines.rows]
    records += [(event.step, 1, encode_event(event)) for event in lines.events]
    # The sort is stable: events of one step keep their order.
    records.sort(key=lambda record: record[:2])
    return b"".join(line for _, _, line in records)


def read_lines(path: Path) -> Lines:
    """Read a signals file, whatever a crash has left of it.

    A torn last line (the process died while writing it) is left out. A line that does not parse is
    left out and counted. When a step occurs again, the file was continued from an earlier step
    without being cut: what followed is dropped and the later lines stand.

    Raises:
        OSError: If the file cannot be read.
    """
    lines = Lines()
    *complete, last = path.read_bytes().split(b"\n")
    for line in complete:
        lines.num_unreadable += not _take(lines, line)
    if last and not _take(lines, last):
        logger.debug("signals file %s ends in a torn line of %d bytes", path, len(last))
    if lines.num_unreadable:
        logger.warning("signals file %s: %d unreadable lines left out", path, lines.num_unreadable)
    return lines


def _take(lines: Lines, line: bytes) -> bool:
    """Add one line; False if it is not a line of a signals file."""
    try:
        record = json.loads(line)
        step = record.pop("step")
        if type(step) is not int:
            return False
        if "event" in record:
            lines.events.append(Event(step, str(record["event"])))
            return True
        # All values before anything is dropped: an unreadable line must not cut the file.
        values = {name: float(value) for name, value in record.items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return False
    if lines.rows and lines.rows[-1][0] >= step:
        lines.drop_from(step)
    lines.rows.append((step, values))
    return True
