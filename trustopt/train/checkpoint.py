"""Saved states: everything a run needs to go on bit for bit, written whole or not at all."""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .folders import remove_folder, saved_steps, sync_folder
from .loop import Run
from .tree_file import load_tree, save_tree

FORMAT = "trustopt-state/1"
RUN_FILE = "run.safetensors"
LORA_FILE = "lora.safetensors"


class ResumeError(ValueError):
    """A saved state does not belong to this job; the message names each difference."""


def save_state(
    run: Run,
    state: Path,
    fingerprint: Mapping[str, Any],
    save_lora: Callable[[Path], None],
    *,
    keep_last: int,
) -> Path:
    """Write the run's state as ``state/<step>/`` and drop the oldest beyond ``keep_last``.

    The folder holds ``run.safetensors`` (the whole run) and ``lora.safetensors`` (the LoRA so far,
    usable as it is). It is built under another name, flushed, then renamed.

    Raises:
        OSError: If it cannot be written; older states are untouched then.
    """
    state.mkdir(parents=True, exist_ok=True)
    final = state / f"{run.step:08d}"
    building = state / f".building-{run.step:08d}"
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir()
    try:
        save_tree(building / RUN_FILE, _describe(run, fingerprint))
        save_lora(building / LORA_FILE)
        sync_folder(building)
        if final.exists():
            remove_folder(final)
        os.replace(building, final)
        sync_folder(state)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    for old in saved_steps(state)[:-keep_last]:
        remove_folder(state / old)
    return final


def _describe(run: Run, fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "fingerprint": dict(fingerprint),
        "step": run.step,
        "skipped": run.skipped,
        "bad_in_a_row": run.bad_in_a_row,
        "position": run.position(),
        "adapters": run.adapters.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "normaliser": run.normaliser.state_dict(),
        "ema": None if run.ema is None else run.ema.state_dict(),
    }


def load_latest(
    run: Run, state: Path, fingerprint: Mapping[str, Any], *, anyway: bool = False
) -> int:
    """Bring a freshly built run to its newest saved state and return that step.

    Args:
        run: Built for the same job, at step 0; changed in place.
        state: The run's state folder.
        fingerprint: What the job is now; compared with what it was.
        anyway: Go on although model, adapter or data differ.

    Raises:
        ResumeError: If nothing is saved, or the job differs.
    """
    steps = saved_steps(state)
    if not steps:
        raise ResumeError(f"{state} holds no saved state: start the run without resume")
    saved = load_tree(state / steps[-1] / RUN_FILE)
    if saved.get("format") != FORMAT:
        raise ResumeError(
            f"{state / steps[-1]} has format {saved.get('format')!r}, this version reads {FORMAT!r}"
        )
    _check_same(saved["fingerprint"], fingerprint, anyway=anyway)
    run.adapters.load_state_dict(saved["adapters"])
    run.optimizer.load_state_dict(saved["optimizer"])
    if run.ema is not None and saved["ema"] is not None:
        run.ema.load_state_dict(saved["ema"])
    run.normaliser.load_state_dict(saved["normaliser"])
    run.go_to(saved["position"])
    run.step, run.skipped = saved["step"], saved["skipped"]
    run.bad_in_a_row = saved["bad_in_a_row"]
    return run.step


ALWAYS = frozenset({"adapter", "optimizer"})
"""Differences no one can continue across: the saved tensors would not fit."""


def _check_same(was: Mapping[str, Any], now: Mapping[str, Any], *, anyway: bool) -> None:
    differences = [
        f"{key} was {was.get(key)!r} and is now {now.get(key)!r}"
        for key in sorted({*was, *now})
        if was.get(key) != now.get(key) and (key in ALWAYS or not anyway)
    ]
    if differences:
        raise ResumeError(
            "the saved run is another job: "
            + "; ".join(differences)
            + ". Restore those, or give the run a new name to start afresh"
            + ("" if anyway else ", or choose to continue anyway")
        )
