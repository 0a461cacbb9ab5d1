"""Where a run comes from, kept in its folder: its plan, and the workflow that trained it.

A browser lists runs by their plan and opens their workflow again; the LoRA's header holds both as
well, but a run that broke off has none, and headers of hundreds of files are slow to read.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..trustopt.train.folders import write_text

if TYPE_CHECKING:
    from ..trustopt.train.hooks import Hooks
    from ..trustopt.train.loop import Run

logger = logging.getLogger("trustopt")

PLAN_FILE, WORKFLOW_FILE = "plan.json", "workflow.json"


def noting_origin(hooks: "Hooks", plan: Mapping[str, Any], workflow: Any) -> "Hooks":
    """Return hooks that also write down where the run comes from when it begins.

    Args:
        hooks: To call besides.
        plan: ``TrainPlan.to_dict``.
        workflow: As the browser saves it; None where there is none, or the user wants none kept.
    """

    def on_start(run: "Run", folder: Path) -> None:
        hooks.on_start(run, folder)
        write_json(folder / PLAN_FILE, plan)
        if workflow is not None:
            write_json(folder / WORKFLOW_FILE, workflow)

    return replace(hooks, on_start=on_start)


def write_json(path: Path, value: Any) -> None:
    """Write a value, whole or not at all."""
    write_text(path, json.dumps(value, ensure_ascii=False) + "\n")


def read_workflow(folder: Path, lora: Path | None) -> dict[str, Any] | None:
    """Return the workflow of a run, from its folder or its LoRA's header; None if none is there."""
    kept = folder / WORKFLOW_FILE
    text = kept.read_text(encoding="utf-8") if kept.is_file() else None
    if text is None and lora is not None:
        text = header_of(lora).get("workflow")
    try:
        workflow = json.loads(text or "null")
    except ValueError as error:
        logger.warning("the workflow of %s cannot be read: %s", folder.name, error)
        return None
    is_workflow = isinstance(workflow, dict) and isinstance(workflow.get("nodes"), list)
    return workflow if is_workflow else None


def header_of(lora: Path) -> dict[str, str]:
    """Return the metadata of a LoRA file; empty if it has none, or is no safetensors file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(lora, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        logger.warning("%s cannot be read: %s", lora.name, error)
        return {}
