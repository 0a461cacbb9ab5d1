"""Saved states: everything a run needs to go on bit for bit, written whole or not at all."""

import logging
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .folders import remove_folder, saved_steps, sync_folder
from .loop import Run
from .tree_file import load_tree, save_tree

log = logging.getLogger("trustopt")

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
        "loss_scale": run.loss_scale.state_dict(),
        "ema": None if run.ema is None else run.ema.state_dict(),
    }


@dataclass(frozen=True)
class Resumed:
    """What a run went on from."""

    step: int
    changed: tuple[str, ...] = ()
    """In what the job differs from the saved one, where it goes on all the same."""


def check_same(state: Path, fingerprint: Mapping[str, Any], *, anyway: bool = False) -> None:
    """Refuse to resume another job, before any work; the tensors are not read.

    Raises:
        ResumeError: As ``load_latest`` does.
    """
    saved = _newest(state, only=("format", "fingerprint"))
    _differences(saved["fingerprint"], fingerprint, anyway=anyway)


def load_latest(
    run: Run, state: Path, fingerprint: Mapping[str, Any], *, anyway: bool = False
) -> Resumed:
    """Bring a freshly built run to its newest saved state.

    A damaged state is set aside and the one before it taken. With other pictures or another batch
    size, the order of the pictures starts anew.

    Args:
        run: Built for the same job, at step 0; changed in place.
        state: The run's state folder.
        fingerprint: What the job is now; compared with what it was.
        anyway: Go on although model, data, batch size or seed differ.

    Raises:
        ResumeError: If nothing is saved, or the job differs.
    """
    saved = _newest(state)
    was = saved["fingerprint"]
    changed = _differences(was, fingerprint, anyway=anyway)
    run.adapters.load_state_dict(saved["adapters"])
    run.optimizer.load_state_dict(saved["optimizer"])
    if run.ema is not None:
        if saved["ema"] is None:  # the average was turned on since: it starts from here
            run.ema.restart(run.parameters)
        else:
            run.ema.load_state_dict(saved["ema"])
    run.normaliser.load_state_dict(saved["normaliser"])
    run.loss_scale.load_state_dict(saved["loss_scale"])
    position = saved["position"]
    if any(was[key] != fingerprint[key] for key in ORDERING):
        position = {**position, "batches": run.position()["batches"]}
    run.go_to(position)
    run.step, run.skipped = saved["step"], saved["skipped"]
    run.bad_in_a_row = saved["bad_in_a_row"]
    return Resumed(run.step, changed)


def _newest(state: Path, only: Collection[str] | None = None) -> dict[str, Any]:
    """Return the newest state that can be read, or some of its entries.

    Raises:
        ResumeError: If there is none, or it is of another version.
    """
    for name in reversed(saved_steps(state)):
        try:
            saved = load_tree(state / name / RUN_FILE, only)
        except (OSError, ValueError) as error:
            log.warning("the saved state %s cannot be read and is set aside: %s", name, error)
            os.replace(state / name, state / f"damaged-{name}")
            continue
        if saved.get("format") != FORMAT:
            raise ResumeError(
                f"{state / name} has format {saved.get('format')!r}, this version reads {FORMAT!r}"
            )
        return saved
    raise ResumeError(f"{state} holds no saved state: start the run without resume")


ALWAYS = ("adapter", "optimizer")
"""Differences no one can continue across: the saved tensors would not fit."""

ORDERING = ("data", "batch")
"""Parts of a fingerprint that the order of the pictures depends on."""

HASHES: Mapping[str, str] = MappingProxyType(
    {
        "data.pictures": "pictures, captions, masks or repeats are others",
        "model.network": "the base model's weights, or the LoRAs on it, are others",
        "model.vae": "the VAE is another",
        "model.text_encoders": "the text encoders are others",
    }
)
"""Parts of a fingerprint that nobody can read, and what it means that they differ."""


def _differences(
    was: Mapping[str, Any], now: Mapping[str, Any], *, anyway: bool
) -> tuple[str, ...]:
    """Return the differences one may go on across; refuse the others."""
    found = {key: differences(key, was.get(key), now.get(key)) for key in sorted({*was, *now})}
    refused = [d for key, named in found.items() if key in ALWAYS or not anyway for d in named]
    if refused:
        hopeless = any(found.get(key) for key in ALWAYS)
        raise ResumeError(
            "the saved run is another job: "
            + "; ".join(refused)
            + ". Restore that, or give the run a new name to start afresh"
            + ("" if hopeless else ", or choose to continue anyway")
        )
    return tuple(d for named in found.values() for d in named)


def differences(name: str, was: Any, now: Any) -> list[str]:
    """Return what differs between two plain values, each setting by its path."""
    if was == now:
        return []
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        keys = sorted({*was, *now})
        return [d for k in keys for d in differences(f"{name}.{k}", was.get(k), now.get(k))]
    return [HASHES.get(name, f"{name} was {was!r} and is now {now!r}")]
