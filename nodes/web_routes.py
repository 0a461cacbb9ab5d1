"""What the pack's browser extension asks, besides following runs (``routes.py``).

``GET /trustopt/plan``: the plan of a folder, to fill in the Preset node's widgets.
``POST /trustopt/panels``: the page draws the live panel itself, or with ``away`` leaves.
``POST /trustopt/runs/{run_id}/save`` and ``/sample``: wishes to a run under way.
``GET /trustopt/runs/{run_id}/samples/{file}?size=PIXELS``: a sample picture, or the grid; with a
size, a small JPEG of it.

A question that has no answer (no picture in the folder, no model connected) is answered with
``{"problem": text}`` and status 200: it is for the user to read, no fault of the request.
"""

import asyncio
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import folder_paths
from aiohttp import web
from PIL import Image

from .languages import problem_text
from .messages import prompt_server
from .routes import refusal, run_folder
from .runs import request_wish
from .watchers import note_away, note_panel

if TYPE_CHECKING:
    from .prefill import Query

TEXTS = (
    "folder",
    "caption_extension",
    "family",
    "purpose",
    "model",
    "optimizer",
    "save_dtype",
    "language",
)
NUMBERS = {"repeats": int, "lr": float}
OBJECTS = ("overrides", "adapter")
"""Parameters of ``/trustopt/plan`` by kind; objects are written as JSON."""

LONGEST_ID = 200
"""Characters of a client's id; ComfyUI's are 32."""

SMALLEST, LARGEST = 16, 1024
"""Sides of a small picture, pixels."""


def add_web_routes() -> None:
    """Register the routes with ComfyUI's server, if there is one."""
    server = prompt_server()
    if server is None:
        return
    server.routes.get("/trustopt/plan")(get_plan)
    server.routes.post("/trustopt/panels")(post_panel)
    server.routes.post("/trustopt/runs/{run_id}/{wish:save|sample}")(wish_of_run)
    server.routes.get("/trustopt/runs/{run_id}/samples/{file}")(get_sample)


async def get_plan(request: web.Request) -> web.Response:
    """Answer with the plan of a folder; see ``prefill.prefill``."""
    # Imported when asked: ComfyUI shows every user how long each pack takes to load.
    from .prefill import prefill

    try:
        query = parse_query(request.query)
    except ValueError as error:
        return refusal(400, str(error))
    try:
        return web.json_response(await asyncio.to_thread(prefill, query))
    except ValueError as error:
        return web.json_response({"problem": problem_text(error, query.language)})


async def wish_of_run(request: web.Request) -> web.Response:
    """Ask a run to save or to make its samples after the current step."""
    run_id, wish = request.match_info["run_id"], request.match_info["wish"]
    if not request_wish(run_id, wish):
        return refusal(404, f"run {run_id!r} is not under way")
    return web.json_response({"run_id": run_id, "wish": wish}, status=202)


async def post_panel(request: web.Request) -> web.Response:
    """Note that a page, by the id its prompts carry, draws the live panel, or is left."""
    try:
        posted = await request.json()
        client_id, is_away = posted["client_id"], bool(posted.get("away"))
    except (ValueError, KeyError, TypeError, AttributeError):
        client_id = None
    if not isinstance(client_id, str) or not 0 < len(client_id) <= LONGEST_ID:
        return refusal(400, 'post {"client_id": text}')
    (note_away if is_away else note_panel)(client_id)
    return web.json_response({"client_id": client_id})


async def get_sample(request: web.Request) -> web.StreamResponse:
    """Answer with a sample picture of a run, or with a small one for a page to show."""
    run_id, file = request.match_info["run_id"], request.match_info["file"]
    path = sample_file(run_id, file)
    if path is None:
        return refusal(404, f"run {run_id!r} has no sample picture {file!r}")
    # A resumed run writes a step's pictures again under their names: pages must ask each time.
    headers = {"Cache-Control": "no-cache"}
    if "size" not in request.query:
        return web.FileResponse(path, headers=headers)
    size = request.query["size"]
    if not size.isdecimal() or not SMALLEST <= int(size) <= LARGEST:
        return refusal(400, f"size must be a whole number from {SMALLEST} to {LARGEST}: pixels")
    try:
        body = await asyncio.to_thread(small_jpeg, path, int(size))
    except OSError as error:
        return refusal(404, f"{file} cannot be read: {error}")
    return web.Response(body=body, content_type="image/jpeg", headers=headers)


def sample_file(run_id: str, file: str) -> Path | None:
    """Return a picture of a run's samples folder; None for what lies elsewhere or is none."""
    run = run_folder(run_id)
    if run is None or Path(file).name != file or not file.endswith(".png"):
        return None
    path = run / "samples" / file
    # A link in the folder may point out of it.
    is_inside = folder_paths.is_within_directory(str(run / "samples"), str(path))
    return path if is_inside and path.is_file() else None


def small_jpeg(path: Path, size: int) -> bytes:
    """Return a picture as a JPEG at most ``size`` pixels wide and high."""
    with Image.open(path) as image:
        small = image.convert("RGB")
    small.thumbnail((size, size), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=88)
    return file.getvalue()


def parse_query(parameters: Mapping[str, str]) -> "Query":
    """Return the query that the parameters of a request spell.

    Raises:
        ValueError: If one is unknown, or no number or JSON object where it must be one.
    """
    from .prefill import Query

    unknown = set(parameters) - {*TEXTS, *NUMBERS, *OBJECTS}
    if unknown or "folder" not in parameters:
        raise ValueError(
            f"give folder and, if you like, {', '.join((*TEXTS[1:], *NUMBERS, *OBJECTS))}"
            + (f"; not {', '.join(sorted(unknown))}" if unknown else "")
        )
    values: dict[str, Any] = {name: parameters[name] for name in TEXTS if name in parameters}
    for name, kind in NUMBERS.items():
        if name in parameters:
            values[name] = kind(parameters[name])
    for name in OBJECTS:
        if name in parameters:
            values[name] = json.loads(parameters[name])
            if not isinstance(values[name], dict):
                raise ValueError(f"{name} must be a JSON object, got {parameters[name]!r}")
    return Query(**values)
