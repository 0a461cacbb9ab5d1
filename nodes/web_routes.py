"""What the pack's browser extension asks, besides following runs (``routes.py``).

``GET /trustopt/plan``: the plan of a folder, to fill in the Preset node's widgets.
``POST /trustopt/panels``: the page draws the live panel itself.
``POST /trustopt/runs/{run_id}/save`` and ``/sample``: wishes to a run under way.

A question that has no answer (no picture in the folder, no model connected) is answered with
``{"problem": text}`` and status 200: it is for the user to read, no fault of the request.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import web

from .messages import prompt_server
from .routes import refusal
from .runs import request_wish
from .watchers import note_panel

if TYPE_CHECKING:
    from .prefill import Query

TEXTS = ("folder", "caption_extension", "family", "purpose", "model", "optimizer", "save_dtype")
NUMBERS = {"repeats": int, "lr": float}
OBJECTS = ("overrides", "adapter")
"""Parameters of ``/trustopt/plan`` by kind; objects are written as JSON."""

LONGEST_ID = 200
"""Characters of a client's id; ComfyUI's are 32."""


def add_web_routes() -> None:
    """Register the routes with ComfyUI's server, if there is one."""
    server = prompt_server()
    if server is None:
        return
    server.routes.get("/trustopt/plan")(get_plan)
    server.routes.post("/trustopt/panels")(post_panel)
    server.routes.post("/trustopt/runs/{run_id}/{wish:save|sample}")(wish_of_run)


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
        return web.json_response({"problem": str(error)})


async def wish_of_run(request: web.Request) -> web.Response:
    """Ask a run to save or to make its samples after the current step."""
    run_id, wish = request.match_info["run_id"], request.match_info["wish"]
    if not request_wish(run_id, wish):
        return refusal(404, f"run {run_id!r} is not under way")
    return web.json_response({"run_id": run_id, "wish": wish}, status=202)


async def post_panel(request: web.Request) -> web.Response:
    """Note that a page, by the id its prompts carry, draws the live panel."""
    try:
        client_id = (await request.json())["client_id"]
    except (ValueError, KeyError, TypeError):
        client_id = None
    if not isinstance(client_id, str) or not 0 < len(client_id) <= LONGEST_ID:
        return refusal(400, 'post {"client_id": text}')
    note_panel(client_id)
    return web.json_response({"client_id": client_id})


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
