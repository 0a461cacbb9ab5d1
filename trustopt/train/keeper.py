"""Around each step: record, report, validate, sample, save. ``Keeper.on_step`` is the order."""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean
from traceback import clear_frames
from typing import Any

import torch

from ..config import JobConfig
from ..optim import resolve_options
from ..signals import Recorder
from ..signals.table import BIN_PREFIX, NUM_BINS
from .checkpoint import save_state
from .folders import RunFolder
from .hooks import Hooks
from .loop import Run, StepReport, StopTraining
from .lora_file import LoraWriter, saved_weights
from .validation import Validation

log = logging.getLogger("trustopt")


@dataclass(kw_only=True)
class Keeper:
    """Keeps a run on disk and its face informed."""

    run: Run
    hooks: Hooks
    folder: RunFolder
    writer: LoraWriter
    recorder: Recorder
    fingerprint: Mapping[str, Any]
    validation: Validation | None
    saved_step: int
    """Step of the newest state on disk."""
    sampled_step: int | None = None
    """Step of the newest sample pictures."""
    stop_seen: bool = False

    def on_step(self, report: StepReport) -> None:
        """Follow one step; what a hook raises ends training."""
        job = self.run.job
        values: dict[str, Any] = {
            "loss": report.loss,
            "loss_level_free": report.level_free_loss,
            "lr": report.lr,
            "grad_norm": report.grad_norm,
            "epoch": report.epoch,
            "seconds": report.seconds,
            "skipped": int(report.skipped),
            **loss_by_level(report),
            **{f"opt/{name}": value for name, value in report.signals.items()},
        }
        values["val/loss"] = due_validation(self.run, self.validation)
        self.recorder.record(report.step, values)
        wishes = self.hooks.wishes()
        if is_due(report.step, job.save_every) or "save" in wishes:
            self.save()
        if "save" in wishes:
            self.copy()
        if is_due(report.step, job.sample_every) or "sample" in wishes:
            self.sample()
        self.hooks.on_step(report, self.recorder)
        self._obey_optimizer()

    def _obey_optimizer(self) -> None:
        """Act on an Emo optimizer's ``should_stop``, once."""
        if self.stop_seen or not getattr(self.run.optimizer, "should_stop", False):
            return
        self.stop_seen = True
        self.recorder.event("should_stop", self.run.step)
        wish = trainer_options(self.run.job)["on_should_stop"]
        self.hooks.on_report(
            f"step {self.run.step}: the optimizer says the loss has settled (should_stop); "
            + {"ignore": "going on", "stop": "stopping", "save and go on": "saved, going on"}[wish]
        )
        if wish == "save and go on":
            self.save()
        elif wish == "stop":
            raise StopTraining("the optimizer's should_stop")

    def sample(self) -> None:
        """Let the face make its pictures with the weights that would be saved now, once a step.

        What goes wrong there is told and does not end training; an interrupt does.
        """
        run = self.run
        if run.step == self.sampled_step:
            return
        self.sampled_step = run.step
        if run.graphs is not None:
            run.graphs.forget()  # samplers and the VAE need the memory
        try:
            with saved_weights(run):
                self.hooks.on_sample(run)
        except Exception as error:  # noqa: BLE001  (out of memory, a full disk, another pack's node)
            self.recorder.event("samples failed", run.step)
            self.hooks.on_report(
                f"step {run.step}: the sample pictures failed ({first_line(error)}); training "
                "goes on"
            )
            self.hooks.on_sample_failed(run.step, error)

    def save(self) -> None:
        """Save a state unless this step's is on disk already.

        Raises:
            OSError: If it cannot be written; the first line names the last state that was.
        """
        run = self.run
        if run.step == self.saved_step or run.step == 0:
            return
        self.recorder.sync()  # a state must never be newer than the signals that led to it
        try:
            path = save_state(
                run,
                self.folder.state,
                self.fingerprint,
                self.writer.save,
                keep_last=run.job.keep_last,
            )
        except OSError as error:
            raise OSError(
                error.errno,
                f"step {run.step} could not be saved ({error.strerror or error}): free disk space "
                f"and resume; the newest saved state is step {self.saved_step}",
                str(self.folder.state),
            ) from error
        self.saved_step = run.step
        self.recorder.event("save", run.step)
        self.hooks.on_saved(run.step, path)

    def copy(self) -> None:
        """Write the LoRA so far beside the final one, named after its step; none removes it."""
        path = self.folder.lora.with_stem(f"{self.folder.lora.stem}_step{self.run.step}")
        path = self.writer.save(path, existing="number")  # another run may have that very name
        self.hooks.on_copied(self.run.step, path)

    def keep_after_error(self, error: BaseException) -> None:
        """Save what was trained while ``error`` is under way; never hides it."""
        if self.run.step == 0:
            return
        if isinstance(error, torch.OutOfMemoryError):
            clear_frames(error.__traceback__)  # they hold the step's tensors, and saving takes some
        step, lora, kind = self.run.step, self.folder.lora, type(error).__name__
        if self._tried(self.save, f"the steps since step {self.saved_step} are lost to resume"):
            log.warning("training ended at step %d (%s): resume goes on from there", step, kind)
        if self._tried(lambda: self.writer.save(lora), f"{lora} was not written"):
            log.warning("the LoRA so far is %s", lora)
        ending = {"status": "interrupted", "step": step, "error": kind, "time": time.time()}
        self._tried(
            lambda: self.folder.write_json("result.json", ending), "result.json was not written"
        )

    def _tried(self, save: Callable[[], object], otherwise: str) -> bool:
        """Return whether saving worked; what went wrong is logged."""
        try:
            save()
        except Exception as failure:  # noqa: BLE001  (the first error is the one to be raised)
            log.error("%s: %s", otherwise, getattr(failure, "strerror", None) or failure)
            return False
        return True


def loss_by_level(report: StepReport) -> dict[str, float]:
    """Return the step's mean loss in each tenth of the noise levels that it drew.

    The loss of a step says mostly which noise levels were drawn; these say how training goes.
    """
    tenths: dict[int, list[float]] = defaultdict(list)
    for level, loss in zip(report.levels, report.sample_losses, strict=True):
        tenths[min(int(level * NUM_BINS), NUM_BINS - 1)].append(loss)
    return {f"{BIN_PREFIX}{tenth}": fmean(losses) for tenth, losses in sorted(tenths.items())}


def first_line(error: Exception) -> str:
    """Return an error's kind and the first line of its message."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def due_validation(run: Run, validation: Validation | None) -> float | None:
    """Return the validation loss if one is due after this step; all processes call it at once."""
    job = run.job
    if validation is None or not is_due(run.step, job.validate_every, job.steps):
        return None
    return validation.loss(run)


def trainer_options(job: JobConfig) -> dict[str, Any]:
    """Return the options of the job's optimizer, defaults filled in; the trainer obeys some."""
    return resolve_options(job.optimizer.name, job.optimizer.options)


def is_due(step: int, every: int, last: int | None = None) -> bool:
    """Return whether something done every ``every`` steps (0: never) is due, or at the last one."""
    return every > 0 and (step % every == 0 or step == last)
