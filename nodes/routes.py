"""What a browser can ask: which runs there are, what one recorded, and to stop one.

``GET /trustopt/runs``, ``GET /trustopt/runs/{run_id}?after=STEP``,
``POST /trustopt/runs/{run_id}/stop``. While a run trains, its node also sends
``trustopt.progress`` events (``live.py``); after a reload the browser fetches what it missed here.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aiohttp import web

from ..trustopt.config import check_name
from ..trustopt.signals.recorder import load_signals
from ..trustopt.signals.table import Signals
from ..trustopt.train.sample_folder import SamplePicture, read_index
from .messages import prompt_server
from .places import output_folders
from .run_list import list_runs, read_json, status
from .runs import active_runs, request_stop_and_keep


def add_routes() -> None:
    """Register the routes with ComfyUI's server, if there is one."""
    server = prompt_server()
    if server is None:
        return
    server.routes.get("/trustopt/runs")(get_runs)
    server.routes.get("/trustopt/runs/{run_id}")(get_run)
    server.routes.post("/trustopt/runs/{run_id}/stop")(stop_run)


async def get_runs(_: web.Request) -> web.Response:
    """Answer with every run on disk and those under way, newest first."""
    return web.json_response({"runs": await asyncio.to_thread(list_runs)})


async def get_run(request: web.Request) -> web.Response:
    """Answer with the columns a run recorded after a step (query ``after``, by default 0)."""
    run_id = request.match_info["run_id"]
    try:
        after = int(request.query.get("after", "0"))
    except ValueError:
        return refusal(400, "after must be a whole number, a step")
    folder = run_folder(run_id)
    if folder is None:
        return refusal(404, f"there is no run {run_id!r}")
    return web.json_response(await asyncio.to_thread(describe, folder, after))


async def stop_run(request: web.Request) -> web.Response:
    """Ask a run to stop after its current step and keep what it has trained."""
    run_id = request.match_info["run_id"]
    if not request_stop_and_keep(run_id):
        return refusal(404, f"run {run_id!r} is not under way")
    return web.json_response({"run_id": run_id, "stopping": True}, status=202)


def refusal(status: int, message: str) -> web.Response:
    """Return an error as JSON."""
    return web.json_response({"error": message}, status=status)


def run_folder(run_id: str) -> Path | None:
    """Return the folder of a run; None for what is no run's name."""
    try:
        folder = output_folders().runs / check_name(run_id)
    except ValueError:
        return None
    return folder if (folder / "job.json").is_file() else None


def describe(folder: Path, after: int) -> dict[str, Any]:
    """Return what a run recorded after a step, and how it stands."""
    try:
        signals = load_signals(folder / "signals.jsonl")
    except ValueError:  # it has not taken its first step
        signals = Signals.empty(folder.name)
    return {
        "run_id": folder.name,
        "status": status(folder),
        "steps": read_json(folder / "job.json").get("steps"),
        "result": read_json(folder / "result.json"),
        "can_sample": any(run.run_id == folder.name and run.can_sample for run in active_runs()),
        "samples": json_samples(read_index(folder / "samples")),
        "columns": json_columns(signals, after),
        "events": [{"step": event.step, "name": event.name} for event in signals.events],
    }


def json_samples(pictures: Sequence[SamplePicture]) -> list[dict[str, Any]]:
    """Return sample pictures as JSON holds them: file, step, number, prompt."""
    return [asdict(picture) for picture in pictures]


def json_columns(signals: Signals, after: int) -> dict[str, list[float | None]]:
    """Return the columns of the steps after one, as JSON holds them: no value is null."""
    rows = signals.steps > after
    return {
        name: [value if math.isfinite(value) else None for value in column[rows].tolist()]
        for name, column in signals.columns.items()
    }
