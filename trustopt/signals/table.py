"""``Signals``: one run's scalars as columns, the value that travels between nodes."""

import math
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

STEP = "step"
"""The column every table has: optimizer steps, int64, strictly increasing."""

BIN_PREFIX = "loss_bin/"
"""Series ``loss_bin/0`` … ``loss_bin/9``: a step's mean loss in each tenth of the noise levels."""

NUM_BINS = 10


@dataclass(frozen=True, order=True)
class Event:
    """Something that happened once, drawn as a mark across the panels."""

    step: int
    """Optimizer step after which it happened."""
    name: str
    """``save``, ``resume``, ``stop``, ``sample`` or any short word of the caller's."""


@dataclass(frozen=True, eq=False)
class Signals:
    """One run's scalars. Columns are parallel: entry i of each belongs to ``steps[i]``.

    Raises:
        ValueError: If there is no step column or the columns differ in length.
    """

    run: str
    """Name of the run, shown in legends."""
    columns: Mapping[str, np.ndarray]
    """``step`` int64 ``(N,)``; every other series float64 ``(N,)``, NaN where it has no value."""
    events: tuple[Event, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """Anything else a caller wants to keep beside the run (optimizer, model, path)."""

    def __post_init__(self) -> None:
        if STEP not in self.columns:
            raise ValueError(
                f"signals need a {STEP!r} column; got {', '.join(self.columns) or 'none'}"
            )
        lengths = {name: len(values) for name, values in self.columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns of signals must be of one length, got {lengths}")

    @classmethod
    def empty(cls, run: str = "") -> "Signals":
        """Return a run that has recorded nothing yet."""
        return cls(run, {STEP: np.empty(0, np.int64)})

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def steps(self) -> np.ndarray:
        """Optimizer steps, int64 ``(N,)``."""
        return self.columns[STEP]

    @property
    def names(self) -> list[str]:
        """Every series but the steps, in the order of their first value."""
        return [name for name in self.columns if name != STEP]

    def series(self, name: str) -> np.ndarray:
        """Return one series, float64 ``(N,)``; all NaN if the run never recorded it."""
        values = self.columns.get(name)
        return np.full(len(self), math.nan) if values is None else values

    def last(self, name: str) -> float:
        """Return the newest finite value of a series, NaN if it has none."""
        values = self.series(name)
        finite = np.flatnonzero(np.isfinite(values))
        return float(values[finite[-1]]) if len(finite) else math.nan


class ColumnBuilder:
    """Columns that grow by one row a step; a row costs the same however long the run is."""

    def __init__(self) -> None:
        self._steps = array("q")
        self._series: dict[str, array[float]] = {}

    @property
    def last_step(self) -> int | None:
        """Step of the newest row, None before the first."""
        return self._steps[-1] if len(self._steps) else None

    def append(self, step: int, values: Mapping[str, float]) -> None:
        """Add a row. A series is padded only when it next has a value: sparse ones stay cheap."""
        for name, value in values.items():
            column = self._series.setdefault(name, array("d"))
            if len(column) < len(self._steps):
                column.extend([math.nan] * (len(self._steps) - len(column)))
            column.append(value)
        self._steps.append(step)

    def columns(self) -> dict[str, np.ndarray]:
        """Return copies in the form of ``Signals.columns``."""
        columns: dict[str, np.ndarray] = {STEP: np.array(self._steps, np.int64)}
        for name, values in self._series.items():
            column = np.full(len(self._steps), math.nan)
            column[: len(values)] = values
            columns[name] = column
        return columns
