"""What the trainer node does, from its inputs to its outputs: start at ``train_lora``."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import comfyui_version
import folder_paths
from comfy.cli_args import args
from comfy_api.latest import io, ui
from comfy_execution.graph_utils import ExecutionBlocker
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
from ..trustopt.train.hooks import Hooks
from ..trustopt.train.plan_job import resolve
from ..trustopt.train.run import Job, RunResult, run_job
from ..trustopt.train.sample_folder import GRID, read_picture
from .bridge.apply import AppliedLora, apply_lora
from .bridge.host import ComfyHost
from .job import build_job
from .live import LiveView
from .messages import show_text
from .objective import ObjectiveChoice
from .origin import noting_origin
from .pictures import to_image
from .places import output_folders
from .runs import note_end
from .sampler import RunSamples, plan_samples
from .samples import SampleChoice
from .watchers import is_panel_drawn
from .widgets import chosen


@dataclass(frozen=True, kw_only=True)
class NodeContext:
    """Which node runs, in which graph."""

    node_id: str | None = None
    prompt: Any = None
    """The queued graph."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What else ComfyUI writes into pictures: the graph as the browser saves it, and more."""

    @classmethod
    def of(cls, node: type[io.ComfyNode]) -> "NodeContext":
        """Return the context of a node that asks for ComfyUI's hidden inputs."""
        hidden = node.hidden
        extra = hidden.extra_pnginfo or {}
        return cls(node_id=hidden.unique_id, prompt=hidden.prompt, extra=extra)

    @property
    def workflow(self) -> Any:
        """The graph as the browser saves it; None from elsewhere."""
        return self.extra.get("workflow")

    def header(self) -> dict[str, str] | None:
        """Return the texts ComfyUI writes into a picture's file; None if it writes none."""
        if args.disable_metadata:
            return None
        values = {"prompt": self.prompt, **self.extra}
        return {name: json.dumps(value) for name, value in values.items() if value is not None}


WORDS = ("checkpointing", "cuda_graphs")
"""Settings whose on and off are words."""


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
    samples: SampleChoice | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of ``build_job``: name, seed and further fields of ``JobConfig``."""
    resume: bool = False
    anyway: bool = False
    """Resume although model or pictures differ."""
    start_from: Path | None = None
    """A LoRA file to train further."""
    node: NodeContext = field(default_factory=NodeContext)

    @classmethod
    def of(
        cls,
        *,
        image_set: ImageSet,
        regularisation: ImageSet | None = None,
        model: Any,
        clip: Any,
        vae: Any,
        plan: TrainPlan,
        optimizer: OptimizerConfig,
        name: str,
        seed: int,
        adapter: Mapping[str, Any] | None = None,
        objective: ObjectiveChoice | None = None,
        samples: SampleChoice | None = None,
        **settings: Any,
    ) -> "TrainRequest":
        """Return what the inputs of a node ask for (``training_inputs.py``)."""
        if regularisation is not None:
            image_set = image_set.with_regularisation(regularisation)
        return cls(
            model=model,
            clip=clip,
            vae=vae,
            images=image_set,
            plan=plan,
            optimizer=optimizer,
            adapter=adapter,
            objective=objective,
            samples=samples,
            settings={"name": name, "seed": seed, **chosen(settings, words=WORDS)},
        )

    def resolve(self) -> tuple[ComfyHost, JobConfig]:
        """Return the model as the engine's host, and the run's settings.

        Raises:
            ValueError: If model, plan and settings do not fit together.
        """
        host = ComfyHost(self.model, self.clip, self.vae)
        check_family(self.plan, host.family)
        config = build_job(
            self.plan,
            self.optimizer,
            self.adapter,
            self.objective,
            **self.settings,
            **sample_settings(self.samples),
        )
        return host, config


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What the trainer node gives."""

    lora: dict[str, Tensor]
    """The saved file's tensors."""
    applied: AppliedLora
    """Clones of MODEL and CLIP with the LoRA on them."""
    result: RunResult
    grid: Path | None
    """The picture of all sample pictures; None if there are none."""


def train_lora(request: TrainRequest) -> Trained:
    """Train, save, read the file back and apply it to clones of MODEL and CLIP.

    Raises:
        ValueError: For input that cannot work, before any encoding or training.
        RuntimeError: If the saved file is not what was trained, or loads in part.
        InterruptProcessingException: If the user pressed Stop; what was trained is saved.
    """
    host, config = request.resolve()
    workflow_id = (request.node.workflow or {}).get("id")
    view = LiveView(request.node.node_id, workflow_id, can_sample=request.samples is not None)
    job = Job(
        config=config,
        host=host,
        images=request.images,
        folders=output_folders(),
        hooks=hooks_of(request, host, view, config.data.resolution),
        notes=notes_of(request, config),
        private=args.disable_metadata,  # ComfyUI's switch for files without prompt and workflow
        resume=request.resume,
        anyway=request.anyway,
        start_from=request.start_from,
    )
    workflow = None if job.private else request.node.workflow
    job.hooks = noting_origin(job.hooks, request.plan.to_dict(), workflow)
    with view.following():
        result = run_job(job)
        view.status, view.lora = result.status, result.lora.name
    note_end(request.node.node_id, result.lora, complete=result.status == "finished")
    lora = load_file(result.lora)
    applied = apply_lora(request.model, request.clip, lora, 1.0)
    require_good(result, applied)
    show_text(closing_text(result, applied, view.sample_problems), request.node.node_id)
    grid = result.folder.samples / GRID
    is_made = request.samples is not None and grid.is_file()
    return Trained(lora=lora, applied=applied, result=result, grid=grid if is_made else None)


def sample_settings(choice: SampleChoice | None) -> dict[str, int]:
    """Return the fields of ``JobConfig`` that a samples node sets; the plan gives the rest."""
    return {} if choice is None or choice.every is None else {"sample_every": choice.every}


def hooks_of(request: TrainRequest, host: ComfyHost, view: LiveView, resolution: int) -> Hooks:
    """Return what the run calls: the view, and what makes sample pictures.

    Raises:
        ValueError: If the model cannot make the pictures that are asked for.
    """
    hooks = view.hooks()
    if request.samples is None:
        return hooks
    plan = plan_samples(request.samples, host, request.images, resolution)
    return RunSamples(plan, host, view, request.node.header()).hooks(hooks)


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


def closing_text(
    result: RunResult, applied: AppliedLora, sample_problems: Mapping[int, str]
) -> str:
    """Return what the node shows after a run."""
    skipped = f", {result.skipped} steps skipped (not finite)" if result.skipped else ""
    lines = [
        f"{result.status} at step {result.steps} after {duration(result.seconds)}{skipped}",
        result.report.summary(),
        f"{applied.mapped} of {applied.total} layers load",
    ]
    if sample_problems:
        steps = ", ".join(map(str, sample_problems))
        newest = list(sample_problems.values())[-1]
        lines.append(f"sample pictures failed at step {steps}: {newest}")
    return "\n".join(lines)


def outputs(trained: Trained) -> io.NodeOutput:
    """Return a training's outputs in the order of the node's schema, and show its pictures."""
    result = trained.result
    plot = to_image(plot_signals(result.signals, theme="dark"))
    shown = shown_pictures(trained, plot)
    return io.NodeOutput(
        trained.lora,
        trained.applied.model,
        result.signals,
        loss_map(result.signals),
        str(result.lora),
        plot,
        trained.applied.clip,
        grid_image(trained.grid),
        ui=ui.SavedImages(shown) if shown else None,
    )


def grid_image(grid: Path | None) -> Any:
    """Return the grid as an IMAGE; without one, what keeps the nodes after it from running."""
    pixels = None if grid is None else read_picture(grid)
    return ExecutionBlocker(None) if pixels is None else to_image(pixels)


def shown_pictures(trained: Trained, plot: Tensor) -> list[ui.SavedResult]:
    """Return the pictures the node shows: the samples, and the plot for pages without the panel."""
    shown = []
    if trained.grid is not None:
        subfolder = trained.grid.parent.relative_to(folder_paths.get_output_directory())
        shown.append(ui.SavedResult(GRID, subfolder.as_posix(), io.FolderType.output))
    if not is_panel_drawn():
        shown += ui.PreviewImage(plot).values
    return shown


def loss_map(signals: Signals) -> dict[str, list[float]]:
    """Return the losses as ComfyUI's own loss graph takes them; steps without one left out."""
    losses = signals.series("loss")
    return {"loss": [value for value in losses.tolist() if value == value]}
