"""The recorder: a step's scalars become columns in memory and one line of a JSONL file."""

import errno
import io
import logging
import math
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .durable import replace_file
from .jsonl import Lines, encode, encode_event, encode_row, read_lines
from .table import STEP, ColumnBuilder, Event, Signals

logger = logging.getLogger("trustopt")

RESERVED = (STEP, "event")
"""Names the file format uses itself."""


class Recorder:
    """Keeps one run's scalars, in memory and (with a path) in a file that survives a crash.

    Every line reaches the operating system in one write before ``record`` returns, so a killed
    process loses nothing but a line it was writing. ``sync`` forces the file to the disk; call it
    before a checkpoint is saved, so that even after a power loss the file reaches the checkpoint.
    ``columns`` and ``signals`` may be called from another thread.

    Args:
        path: The file to begin (its folder is made); None keeps the signals in memory only.
        run: Name of the run; by default the name of the file's folder.
        meta: Carried into ``Signals.meta``.

    Raises:
        ValueError: If the file already holds signals; ``Recorder.resume`` continues them.
        OSError: If the file cannot be written.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        run: str | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = path
        self.run = run if run is not None else (path.resolve().parent.name if path else "")
        self.meta = dict(meta or {})
        self._lock = threading.Lock()
        self._table = ColumnBuilder()
        self._events: list[Event] = []
        self.newest: Mapping[str, float] = {}
        """The values recorded last, by series; none after a resume until the next step."""
        self._file: io.FileIO | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and path.stat().st_size > 0:
                raise ValueError(
                    f"{path} already holds a run's signals; "
                    "resume that run or give the new one another name"
                )
            self._file = path.open("ab", buffering=0)

    @classmethod
    def resume(
        cls,
        path: Path,
        last_step: int,
        *,
        run: str | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> "Recorder":
        """Continue a run's file after ``last_step``, the step its checkpoint was saved at.

        Later lines and a torn one are cut (the file is replaced, never edited in place), a
        ``resume`` event is added, and recording goes on after the newest step kept. A missing
        file, or one that ends before ``last_step``, is continued with a warning: lost signals must
        not stop a run whose weights are safe.

        Args:
            path: The file of the earlier run.
            last_step: Newest step to keep; 0 keeps none but what was recorded before training.
            run: As in the constructor.
            meta: As in the constructor.

        Raises:
            OSError: If the file cannot be read or written; it is then as it was.
        """
        lines = read_lines(path) if path.exists() else Lines()
        lines.drop_from(last_step + 1)
        newest = lines.rows[-1][0] if lines.rows else 0
        if newest < last_step:
            logger.warning(
                "signals file %s ends at step %d, the checkpoint at %d: the steps between are lost",
                path, newest, last_step,
            )  # fmt: skip
        resumed = Event(last_step, "resume")
        if not lines.events or lines.events[-1] != resumed:
            lines.events.append(resumed)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, encode(lines))

        recorder = cls(None, run=run if run is not None else path.resolve().parent.name, meta=meta)
        for step, values in lines.rows:
            recorder._table.append(step, values)
        recorder._events = lines.events
        recorder.path = path
        recorder._file = path.open("ab", buffering=0)
        return recorder

    def record(self, step: int, values: Mapping[str, float | Tensor | None]) -> None:
        """Append one step.

        Args:
            step: Optimizer steps taken so far; greater than the last recorded one.
            values: Scalars by series name: numbers, bools or tensors of one element on any device
                (all tensors of one device are read in one transfer). None means no value.

        Raises:
            ValueError: If the step does not advance, a name is reserved or a tensor has more than
                one element. Nothing is recorded then.
            OSError: If the line cannot be written (disk full). Nothing is recorded then.
        """
        newest = self._table.last_step
        if newest is not None and step <= newest:
            raise ValueError(f"step {step} was recorded after step {newest}; steps must increase")
        for name in RESERVED:
            if name in values:
                raise ValueError(f"{name!r} is not free as a series name; choose another")
        scalars = read_scalars(values)
        self._write(encode_row(step, scalars))
        self.newest = scalars
        with self._lock:
            self._table.append(step, scalars)

    def event(self, name: str, step: int | None = None) -> None:
        """Mark something that happened once (``save``, ``sample``, ``stop``), by default now.

        Args:
            name: A short word, shown beside the mark.
            step: Step it belongs to; None is the last recorded one.

        Raises:
            OSError: If the line cannot be written.
        """
        event = Event((self._table.last_step or 0) if step is None else step, name)
        self._write(encode_event(event))
        with self._lock:
            self._events.append(event)

    def columns(self) -> dict[str, np.ndarray]:
        """Return copies: ``step`` int64 ``(N,)``, series float64 ``(N,)``, NaN for no value."""
        with self._lock:
            return self._table.columns()

    def signals(self) -> Signals:
        """Return what has been recorded so far; later steps do not change it."""
        with self._lock:
            columns, events = self._table.columns(), tuple(self._events)
        return Signals(self.run, columns, events, dict(self.meta))

    def sync(self) -> None:
        """Force what has been written to the disk."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; the columns stay readable. Closing twice is harmless."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _write(self, line: bytes) -> None:
        """Write a whole line or nothing: half a line would spoil the next one, too."""
        if self._file is None:
            return
        try:
            written = self._file.write(line)
        except OSError as error:
            raise self._unwritable(error.errno) from error
        if written != len(line):
            self._file.truncate(os.fstat(self._file.fileno()).st_size - (written or 0))
            raise self._unwritable(errno.ENOSPC)

    def _unwritable(self, number: int | None) -> OSError:
        reason = os.strerror(number or errno.EIO)
        message = f"{self.path} cannot be written ({reason}): free disk space, then resume the run"
        return OSError(number, message)


def read_scalars(values: Mapping[str, float | Tensor | None]) -> dict[str, float]:
    """Return every value as a Python float, reading each device once.

    A value read on its own makes the host wait for the device; twenty optimizer signals would wait
    twenty times a step. Stacked on their device they cost one wait.

    Raises:
        ValueError: If a tensor has more or fewer than one element.
    """
    scalars: dict[str, float] = {}
    pending: dict[torch.device, dict[str, Tensor]] = {}
    for name, value in values.items():
        if value is None:
            continue
        if not isinstance(value, Tensor):
            scalars[name] = float(value)
            continue
        if value.numel() != 1:
            raise ValueError(
                f"series {name!r} must be one number, got a tensor of shape {tuple(value.shape)}"
            )
        scalars[name] = math.nan  # keeps the caller's order of series
        pending.setdefault(value.device, {})[name] = value
    for device, tensors in pending.items():
        scalars.update(zip(tensors, _read_back(device, list(tensors.values())), strict=True))
    return scalars


def _read_back(device: torch.device, tensors: list[Tensor]) -> list[float]:
    """Read one-element tensors of one device with a single transfer."""
    # Exact for every dtype a signal can have; Apple's MPS has no float64.
    dtype = torch.float32 if device.type == "mps" else torch.float64
    stacked = torch.stack([tensor.detach().reshape(()).to(dtype) for tensor in tensors])
    return stacked.tolist()


def load_signals(path: Path, *, run: str | None = None) -> Signals:
    """Read a run back from its file.

    Args:
        path: A ``signals.jsonl``; a torn last line is left out.
        run: Name of the run; by default the name of the file's folder.

    Raises:
        ValueError: If there is no such file.
    """
    if not path.is_file():
        raise ValueError(f"no signals at {path}: give the signals.jsonl of a run that has begun")
    lines = read_lines(path)
    table = ColumnBuilder()
    for step, values in lines.rows:
        table.append(step, values)
    name = run if run is not None else path.resolve().parent.name
    return Signals(name, table.columns(), tuple(lines.events))
