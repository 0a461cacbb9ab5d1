"""What a training node shows while it runs: progress bar, status line, plot, events."""

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import comfy.model_management
import numpy as np
from comfy.utils import ProgressBar
from comfy_execution.utils import get_executing_context

from ..trustopt.plan.wording import duration
from ..trustopt.signals.recorder import Recorder
from ..trustopt.signals.smoothing import auto_beta, ema
from ..trustopt.train.hooks import Hooks
from ..trustopt.train.keeper import first_line
from ..trustopt.train.loop import Run, StepReport, StopTraining
from ..trustopt.train.sample_folder import SamplePicture
from .live_preview import LivePreview
from .messages import show_text
from .routes import json_columns, json_samples
from .runs import ActiveRun, note_graph, take_wishes, under_way
from .throttle import Throttle
from .watchers import is_panel_drawn, send_event

logger = logging.getLogger("trustopt")

EVENT = "trustopt.progress"
EVENT_SECONDS = 0.25
TEXT_SECONDS = 0.5


class LiveView:
    """Follows one run for the people who watch its node; obeys ComfyUI's Stop at every call.

    Args:
        node_id: Of the training node.
        workflow_id: Of the workflow as the browser knows it: the same node id means another node
            in another workflow.
        can_sample: Whether the run makes sample pictures.
    """

    def __init__(
        self, node_id: str | None, workflow_id: str | None = None, *, can_sample: bool = False
    ) -> None:
        context = get_executing_context()
        self.node_id = node_id
        self.workflow_id = workflow_id
        self.can_sample = can_sample
        self.prompt_id = context.prompt_id if context is not None else None
        self.run: ActiveRun | None = None
        self.status = "training"
        self.sample_problems: dict[int, str] = {}
        """Step -> why its sample pictures could not be made."""
        self.lora: str | None = None
        """Name of the newest LoRA file that the user asked for or that ended the run."""
        self._has_panel = is_panel_drawn()
        self._listed = ExitStack()
        self._stage = ""
        self._bar = ProgressBar(1, node_id=node_id)
        self._events = Throttle(EVENT_SECONDS)
        self._texts = Throttle(TEXT_SECONDS)
        self._preview = LivePreview()
        self._times: deque[float] = deque(maxlen=50)
        self._steps_sent = 0
        self._sampling: str | None = None
        """How many of a step's sample pictures are made while they are."""
        self._sampled: dict[str, Any] = {}
        """What the next event tells of sample pictures."""
        self._device: Any = None
        self._recorder: Recorder | None = None

    def hooks(self) -> Hooks:
        """Return this view as the engine's hooks."""
        return Hooks(
            on_stage=self.on_stage,
            on_report=self.on_report,
            on_start=self.on_start,
            on_step=self.on_step,
            on_copied=self.on_copied,
            wishes=self.wishes,
        )

    @contextmanager
    def following(self) -> Iterator[None]:
        """Tell how the run ended when the ``with`` block ends, however it does.

        Inside the block, set ``status`` and ``lora`` to those of the engine's result.
        """
        try:
            yield
        except comfy.model_management.InterruptProcessingException:
            self.status = "interrupted"
            raise
        except BaseException:
            self.status = "failed"
            raise
        finally:
            self._listed.close()
            if self.run is not None:
                self._send()

    def on_stage(self, what: str, done: int, total: int) -> None:
        """Show how far the pictures and captions are encoded."""
        if what != self._stage:
            self._stage = what
            self._bar = ProgressBar(total, node_id=self.node_id)
        self._bar.update_absolute(done, total)
        comfy.model_management.throw_exception_if_processing_interrupted()
        if done == total or self._texts.due():
            self._show_stage(what, done, total)

    def on_report(self, text: str) -> None:
        """Log what the engine reports."""
        for line in text.splitlines():
            logger.info(line)

    def on_start(self, run: Run, folder: Path) -> None:
        """List the run as under way."""
        self._device = run.host.device
        self._bar = ProgressBar(run.job.steps, node_id=self.node_id)
        self._steps_sent = run.step
        self.run = ActiveRun(
            run_id=folder.name,
            node_id=self.node_id,
            prompt_id=self.prompt_id,
            steps=run.job.steps,
            step=run.step,
            can_sample=self.can_sample,
        )
        self._listed.enter_context(under_way(self.run))
        note_graph(folder, self.node_id, self.workflow_id)
        self._times.append(time.monotonic())
        self._send()

    def on_step(self, report: StepReport, recorder: Recorder) -> None:
        """Show a step, then obey a wish to stop.

        Raises:
            InterruptProcessingException: If the user pressed Stop.
            StopTraining: If the user asked to stop and keep.
        """
        run = self._started()
        run.step, self._recorder = report.step, recorder
        self._times.append(time.monotonic())
        is_end = report.step in (1, run.steps)
        if self._events.due() or is_end:
            self._send()
        if not self._has_panel and (self._texts.due() or is_end):
            show_text(self._status_line(report), self.node_id)
        plot = None if self._has_panel else self._preview.plot(recorder, is_end=is_end)
        self._bar.update_absolute(report.step, run.steps, plot)
        comfy.model_management.throw_exception_if_processing_interrupted()
        if run.stop_wanted.is_set():
            raise StopTraining("stop and keep")

    def wishes(self) -> set[str]:
        """Return what the user asked for since the last step."""
        return take_wishes(self._started())

    def on_copied(self, step: int, path: Path) -> None:
        """Tell that the LoRA was saved as the user asked."""
        logger.info("saved %s at step %d", path, step)
        self.lora = path.name
        self._send()
        self.lora = None

    def on_sampling(self, step: int, done: int, total: int) -> None:
        """Show that sample pictures of a step are being made, before ``on_step`` tells of it."""
        run = self._started()
        run.step = step
        self._sampling = f"{done}/{total}"
        if self._events.due() or done == 0:
            self._send()
        if not self._has_panel:
            show_text(f"step {run.step}/{run.steps} | samples {self._sampling}", self.node_id)

    def on_samples(self, listed: Sequence[SamplePicture], pictures: Sequence[np.ndarray]) -> None:
        """Show a step's sample pictures, uint8 ``(H, W, 3)``."""
        run = self._started()
        run.step = listed[0].step
        self._sampling, self._sampled = None, {"samples": json_samples(listed)}
        self._send()
        if not self._has_panel:
            self._bar.update_absolute(run.step, run.steps, self._preview.samples(pictures))

    def on_sample_failed(self, step: int, error: Exception) -> None:
        """Tell that a step's sample pictures could not be made."""
        logger.warning("no sample pictures at step %d", step, exc_info=error)
        self.sample_problems[step] = first_line(error)
        self._sampling, self._sampled = None, {"sample_problem": first_line(error)}
        self._send()

    @property
    def seconds_per_step(self) -> float | None:
        """Wall time of a step, saves included, over the last 50; None before the first."""
        times = self._times
        return (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else None

    def _started(self) -> ActiveRun:
        if self.run is None:
            raise RuntimeError("a step was reported before the run began")
        return self.run

    def _eta(self) -> float | None:
        run, seconds = self._started(), self.seconds_per_step
        return None if seconds is None else seconds * (run.steps - run.step)

    def _status_line(self, report: StepReport) -> str:
        run = self._started()
        parts = [f"step {report.step}/{run.steps}", f"loss {report.loss:.4g}"]
        if self.seconds_per_step is not None:
            parts.append(f"{self.seconds_per_step:.3g} s/step")
            parts.append(f"{duration(self._eta() or 0.0)} left")
        memory = device_memory(self._device)
        parts.append(f"{memory['used'] / 2**30:.1f}/{memory['total'] / 2**30:.1f} GiB")
        return " | ".join(parts)

    def _show_stage(self, what: str, done: int, total: int) -> None:
        if not self._has_panel:
            show_text(f"{what} {done}/{total}", self.node_id)
            return
        event = {"run_id": None, "node": self.node_id, "workflow": self.workflow_id}
        stage = {"status": "preparing", "stage": what, "done": done, "total": total}
        send_event(EVENT, event | stage)

    def _send(self) -> None:
        """Send the steps since the last event, and where the run stands."""
        run = self._started()
        event: dict[str, Any] = {
            "run_id": run.run_id,
            "node": self.node_id,
            "workflow": self.workflow_id,
            "prompt_id": self.prompt_id,
            "status": self.status,
            "lora": self.lora,
            "can_sample": run.can_sample,
            "sampling": self._sampling if self.status == "training" else None,
            "step": run.step,
            "steps": run.steps,
            "eta": self._eta(),
            "seconds_per_step": self.seconds_per_step,
            "memory": device_memory(self._device),
        }
        sampled, self._sampled = self._sampled, {}
        send_event(EVENT, event | sampled | self._news())

    def _news(self) -> dict[str, Any]:
        """Return the newest values and the rows recorded since the last event."""
        if self._recorder is None:
            return {"columns": {}}
        signals = self._recorder.signals()
        columns = json_columns(signals, self._steps_sent)
        self._steps_sent = int(signals.steps[-1])
        loss = signals.series("loss")
        return {
            "loss": newest(loss),
            "smoothed": newest(ema(loss, auto_beta(int(np.isfinite(loss).sum())))),
            "lr": newest(signals.series("lr")),
            "signals": {n: newest(signals.series(n)) for n in signals.names if n[:4] == "opt/"},
            "columns": columns,
        }


def newest(values: np.ndarray) -> float | None:
    """Return the newest finite value of a series, None if it has none."""
    finite = values[np.isfinite(values)]
    return float(finite[-1]) if len(finite) else None


def device_memory(device: Any) -> dict[str, int]:
    """Return the bytes in use and in all on a device; of a CPU, the machine's memory."""
    total = int(comfy.model_management.get_total_memory(device))
    return {"used": total - int(comfy.model_management.get_free_memory(device)), "total": total}
