"""What the trainer node does, from its inputs to its outputs: start at ``train_lora``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import comfyui_version
from comfy.cli_args import args
from comfy_api.latest import io, ui
from safetensors.torch import load_file
from torch import Tensor

from ..trustopt import __version__
from ..trustopt.config import JobConfig, OptimizerConfig
from ..trustopt.data import ImageSet
from ..trustopt.host import Family
from ..trustopt.plan import TrainPlan
from ..trustopt.plan.wording import duration
from ..trustopt.signals.plots import plot_signals
from ..trustopt.signals.table import Signals
from ..trustopt.train.plan_job import resolve
from ..trustopt.train.run import Job, RunResult, run_job
from .bridge.apply import AppliedLora, apply_lora
from .bridge.host import ComfyHost
from .job import build_job
from .live import LiveView
from .messages import show_text
from .objective import ObjectiveChoice
from .pictures import to_image
from .places import output_folders
from .runs import note_end
from .watchers import is_panel_drawn


@dataclass(frozen=True, kw_only=True)
class NodeContext:
    """Which node runs, in which graph."""

    node_id: str | None = None
    prompt: Any = None
    """The queued graph."""
    workflow: Any = None
    """The same as the browser saves it."""

    @classmethod
    def of(cls, node: type[io.ComfyNode]) -> "NodeContext":
        """Return the context of a node that asks for ComfyUI's hidden inputs."""
        hidden = node.hidden
        workflow = (hidden.extra_pnginfo or {}).get("workflow")
        return cls(node_id=hidden.unique_id, prompt=hidden.prompt, workflow=workflow)


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """Everything the trainer node was given."""

    model: Any
    clip: Any
    vae: Any
    images: ImageSet
    plan: TrainPlan
    optimizer: OptimizerConfig
    adapter: Mapping[str, Any] | None = None
    objective: ObjectiveChoice | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of ``build_job``: name, seed and further fields of ``JobConfig``."""
    resume: bool = False
    start_from: Path | None = None
    """A LoRA file to train further."""
    node: NodeContext = field(default_factory=NodeContext)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What the trainer node gives."""

    lora: dict[str, Tensor]
    """The saved file's tensors."""
    applied: AppliedLora
    """Clones of MODEL and CLIP with the LoRA on them."""
    result: RunResult


def train_lora(request: TrainRequest) -> Trained:
    """Train, save, read the file back and apply it to clones of MODEL and CLIP.

    Raises:
        ValueError: For input that cannot work, before any encoding or training.
        RuntimeError: If the saved file is not what was trained, or loads in part.
        InterruptProcessingException: If the user pressed Stop; what was trained is saved.
    """
    host = ComfyHost(request.model, request.clip, request.vae)
    check_family(request.plan, host.family)
    config = build_job(
        request.plan, request.optimizer, request.adapter, request.objective, **request.settings
    )
    view = LiveView(request.node.node_id, (request.node.workflow or {}).get("id"))
    job = Job(
        config=config,
        host=host,
        images=request.images,
        folders=output_folders(),
        hooks=view.hooks(),
        notes=notes_of(request, config),
        private=args.disable_metadata,  # ComfyUI's switch for files without prompt and workflow
        resume=request.resume,
        start_from=request.start_from,
    )
    with view.following():
        result = run_job(job)
        view.status, view.lora = result.status, result.lora.name
    note_end(request.node.node_id, result.lora, complete=result.status == "finished")
    lora = load_file(result.lora)
    applied = apply_lora(request.model, request.clip, lora, 1.0)
    require_good(result, applied)
    show_text(closing_line(result, applied), request.node.node_id)
    return Trained(lora=lora, applied=applied, result=result)


def check_family(plan: TrainPlan, family: Family) -> None:
    """Refuse a plan made for another family.

    Raises:
        ValueError: If model and plan differ.
    """
    if plan.family != family:
        raise ValueError(
            f"MODEL is {family.upper()}, but the preset is for {plan.family.upper()}: set the "
            "preset's family to auto and connect the same MODEL to it"
        )


def notes_of(request: TrainRequest, config: JobConfig) -> dict[str, Any]:
    """Return what goes into the LoRA's metadata besides the job."""
    resolved = resolve(request.plan, config.optimizer)
    return {
        "plan": {**request.plan.to_dict(), "resolved": resolved.to_dict()},
        "versions": {"comfyui": comfyui_version.__version__, "trustopt": __version__},
        "prompt": request.node.prompt,
        "workflow": request.node.workflow,
    }


def require_good(result: RunResult, applied: AppliedLora) -> None:
    """Refuse to call a LoRA trained that says something else in its file, or loads in part.

    Raises:
        RuntimeError: If so; the file stays where it is.
    """
    if not result.report.ok:
        raise RuntimeError(result.report.summary())
    if applied.mapped != applied.total:
        raise RuntimeError(
            f"ComfyUI applies {applied.mapped} of the {applied.total} layers of {result.lora}: "
            "report this with the file's first keys; the file itself is complete"
        )


def closing_line(result: RunResult, applied: AppliedLora) -> str:
    """Return what the node shows after a run."""
    skipped = f", {result.skipped} steps skipped (not finite)" if result.skipped else ""
    return (
        f"{result.status} at step {result.steps} after {duration(result.seconds)}{skipped}\n"
        f"{result.report.summary()}\n{applied.mapped} of {applied.total} layers load"
    )


def outputs(trained: Trained) -> io.NodeOutput:
    """Return a training's outputs in the order of the node's schema, and show its plot."""
    result = trained.result
    plot = to_image(plot_signals(result.signals, theme="dark"))
    return io.NodeOutput(
        trained.lora,
        trained.applied.model,
        result.signals,
        loss_map(result.signals),
        str(result.lora),
        plot,
        trained.applied.clip,
        # A page that draws the live panel shows the same plot already.
        ui=None if is_panel_drawn() else ui.PreviewImage(plot),
    )


def loss_map(signals: Signals) -> dict[str, list[float]]:
    """Return the losses as ComfyUI's own loss graph takes them; steps without one left out."""
    losses = signals.series("loss")
    return {"loss": [value for value in losses.tolist() if value == value]}
