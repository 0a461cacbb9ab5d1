"""Trainings of this process: those under way, which can be stopped, and how they ended.

Node classes hold no state, so what a browser or a next run must know lives here.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(kw_only=True)
class ActiveRun:
    """A training under way."""

    run_id: str
    """Name of the run's folder."""
    node_id: str | None
    prompt_id: str | None
    steps: int
    step: int = 0
    can_sample: bool = False
    """Whether it makes sample pictures."""
    stop_wanted: threading.Event = field(default_factory=threading.Event)
    wishes: set[str] = field(default_factory=set)
    """``save`` and ``sample``, asked for and not yet done."""


GRAPH_FILE = "graph.json"
"""In a run's folder: which node of which workflow trained it."""

_active: dict[str, ActiveRun] = {}
_results: dict[str | None, Path | None] = {}
"""Node -> the file of its newest training; None if that was cut short."""
_lapsed: dict[str | None, int] = {}
"""Node -> how many of its results did not stand when they were wanted again."""
_lock = threading.Lock()


@contextmanager
def under_way(run: ActiveRun) -> Iterator[None]:
    """List a run as under way for the time of a ``with`` block."""
    with _lock:
        _active[run.run_id] = run
    try:
        yield
    finally:
        with _lock:
            _active.pop(run.run_id, None)


def note_graph(folder: Path, node_id: str | None, workflow_id: str | None) -> None:
    """Write down which node trains a run, so that a reloaded page finds its chart again."""
    text = json.dumps({"node": node_id, "workflow": workflow_id})
    (folder / GRAPH_FILE).write_text(text + "\n", encoding="utf-8")


def active_runs() -> list[ActiveRun]:
    """Return the trainings under way."""
    with _lock:
        return list(_active.values())


def request_stop_and_keep(run_id: str) -> bool:
    """Ask a training to end after its current step, as a success; False if none is under way."""
    with _lock:
        run = _active.get(run_id)
    if run is None:
        return False
    run.stop_wanted.set()
    return True


def request_wish(run_id: str, wish: str) -> bool:
    """Ask a training to ``save`` or ``sample`` after its current step; False if none can."""
    with _lock:
        run = _active.get(run_id)
        if run is None or (wish == "sample" and not run.can_sample):
            return False
        run.wishes.add(wish)
    return True


def take_wishes(run: ActiveRun) -> set[str]:
    """Return what was asked of a training since the last call."""
    with _lock:
        taken, run.wishes = run.wishes, set()
    return taken


def note_end(node_id: str | None, lora: Path, *, complete: bool) -> None:
    """Remember how a node's newest training ended."""
    with _lock:
        _results[node_id] = lora if complete else None


def times_lapsed(node_id: str | None) -> int:
    """Return how many of a node's results did not stand: cut short, or their file gone.

    It is the same before and after a training that completes, so ComfyUI serves its result again;
    it changes when the newest result was cut short or deleted, so ComfyUI trains again.
    """
    with _lock:
        result = _results.get(node_id)
        if node_id in _results and (result is None or not result.exists()):
            del _results[node_id]
            _lapsed[node_id] = _lapsed.get(node_id, 0) + 1
        return _lapsed.get(node_id, 0)
