"""What the run browser asks about one run, besides its signals (``routes.py``).

``GET /trustopt/runs/{run_id}/files``: what it left behind that can be used again.
``GET /trustopt/runs/{run_id}/workflow``: the workflow that trained it.
"""

import asyncio
from pathlib import Path
from typing import Any

import folder_paths
from aiohttp import web

from ..trustopt.train.folders import find_run
from .messages import prompt_server
from .origin import read_workflow
from .places import lora_of_run, output_folders
from .routes import refusal, run_folder


def add_run_routes() -> None:
    """Register the routes with ComfyUI's server, if there is one."""
    server = prompt_server()
    if server is None:
        return
    server.routes.get("/trustopt/runs/{run_id}/files")(get_files)
    server.routes.get("/trustopt/runs/{run_id}/workflow")(get_workflow)


async def get_files(request: web.Request) -> web.Response:
    """Answer with what a run left behind."""
    folder = run_folder(request.match_info["run_id"])
    if folder is None:
        return no_run(request)
    return web.json_response(await asyncio.to_thread(files_of, folder))


async def get_workflow(request: web.Request) -> web.Response:
    """Answer with the workflow of a run."""
    folder = run_folder(request.match_info["run_id"])
    if folder is None:
        return no_run(request)
    workflow = await asyncio.to_thread(read_workflow, folder, lora_of_run(folder.name))
    if workflow is None:
        return refusal(404, f"neither the run {folder.name!r} nor its LoRA holds a workflow")
    return web.json_response({"run_id": folder.name, "workflow": workflow})


def no_run(request: web.Request) -> web.Response:
    """Return the error for what is no run's name."""
    return refusal(404, f"there is no run {request.match_info['run_id']!r}")


def files_of(folder: Path) -> dict[str, Any]:
    """Return what a run left behind.

    ``lora``: what loader nodes list its LoRA as, None if it is gone; ``is_hidden``: they would load
    another file of that name instead; ``has_workflow``; ``resumes``: the run that resuming by its
    name goes on with, None if there is no saved state.
    """
    lora = lora_of_run(folder.name)
    found = None if lora is None else folder_paths.get_full_path("loras", lora.name)
    resumed = find_run(output_folders(), folder.name)
    return {
        "run_id": folder.name,
        "lora": None if lora is None else lora.name,
        "is_hidden": lora is not None and not (found and Path(found).samefile(lora)),
        "has_workflow": read_workflow(folder, lora) is not None,
        "resumes": None if resumed is None else resumed.path.name,
    }
