"""The training loop: one image batch from latents to changed weights, read top to bottom.

``train`` is the walk; ``train_step`` is one stride of it. Nothing here knows ComfyUI or a file.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..adapters import AdapterSet
from ..config import JobConfig
from ..data import BatchStream
from ..diffusion import Objective
from ..host import Host
from ..optim import LevelNormaliser, optimizer_signals, step_optimizer
from .backward import backward_of
from .ema import ExponentialAverage
from .graphs import StepGraphs
from .loss_scale import LossScale
from .ranks import Ranks
from .ranks import StopTraining as StopTraining  # what ``on_step`` raises
from .schedule import lr_factor


class NonFiniteError(RuntimeError):
    """The loss or gradient stayed non-finite for ``JobConfig.max_bad_steps`` steps in a row."""


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What one optimizer step did."""

    step: int
    """Optimizer steps done, this one included."""
    loss: float
    """Mean weighted loss of the whole step: all micro-batches, of all processes."""
    level_free_loss: float
    """The same with each sample's noise level divided out (``LevelNormaliser``)."""
    grad_norm: float
    """L2 norm of the gradient before clipping."""
    lr: float
    epoch: int
    """Epochs begun."""
    seconds: float
    skipped: bool
    """True if loss or gradient was not finite, and the weights were left alone."""
    signals: dict[str, Tensor] = field(default_factory=dict)
    """The optimizer's own signals, 0-dim, still on its device."""
    levels: list[float] = field(default_factory=list)
    """Noise level in (0, 1) of each sample of the step."""
    sample_losses: list[float] = field(default_factory=list)
    """Unweighted loss of each sample of the step."""


@dataclass(kw_only=True)
class Run:
    """Everything a run moves: each step changes it, a checkpoint saves it, a resume restores it."""

    job: JobConfig
    host: Host
    adapters: AdapterSet
    optimizer: torch.optim.Optimizer
    objective: Objective
    batches: BatchStream
    generator: torch.Generator
    """The run's only randomness after setup: batch order, latents, levels, noise, dropout."""
    ranks: Ranks = field(default_factory=Ranks)
    """The processes that train; one unless a launcher started several."""
    graphs: StepGraphs | None = None
    """Where steps are recorded and replayed; None runs each as it is."""
    ema: ExponentialAverage | None = None
    normaliser: LevelNormaliser = field(default_factory=LevelNormaliser)
    loss_scale: LossScale = field(init=False)
    parameters: list[torch.nn.Parameter] = field(init=False)
    """The adapters', listed once: walking thousands of layers takes longer than a small step."""
    hears_level_free: bool = False
    """Whether the optimizer is told the loss with the noise levels divided out."""
    step: int = 0
    skipped: int = 0
    bad_in_a_row: int = 0

    def __post_init__(self) -> None:
        self.loss_scale = LossScale(self.host.dtype)
        self.parameters = self.adapters.parameters()

    def position(self) -> dict[str, Any]:
        """Return where the run stands in its data and randomness, as plain values and tensors."""
        return {
            "generator": self.generator.get_state(),
            "batches": self.batches.state_dict(),
            "objective": self.objective.state_dict(),
        }

    def go_to(self, position: dict[str, Any]) -> None:
        """Return to a ``position``, bit for bit."""
        self.generator.set_state(position["generator"])
        self.batches.load_state_dict(position["batches"])
        self.objective.load_state_dict(position["objective"])


def train(run: Run, on_step: Callable[[StepReport], None]) -> None:
    """Train until ``run.job.steps``, inside a host session.

    Args:
        run: Changed in place.
        on_step: Called after each step: record, report, save. What it raises ends training.

    Raises:
        NonFiniteError: After ``max_bad_steps`` non-finite steps in a row.
        BaseException: Whatever a step or ``on_step`` raises; the run then stands exactly at the
            end of its last whole step and can be saved.
    """
    while run.step < run.job.steps:
        before = run.position()
        try:
            report = train_step(run)
        except BaseException:
            # A half-done step has drawn data and noise; a resume must draw the same again.
            run.go_to(before)
            raise
        finally:
            run.optimizer.zero_grad(set_to_none=True)
        with run.ranks.together():
            on_step(report)
        if run.bad_in_a_row >= run.job.max_bad_steps:
            raise NonFiniteError(
                f"loss or gradient was not finite {run.bad_in_a_row} steps in a row up to step "
                f"{run.step}: the weights before that are kept; lower the learning rate, or train "
                "in bf16 or fp32 if the base model overflows in fp16"
            )


def train_step(run: Run) -> StepReport:
    """Take one optimizer step: accumulate gradients over micro-batches, clip, update."""
    started = time.perf_counter()
    lr = set_learning_rate(run)
    found = gradients(run)
    level_free = run.normaliser(torch.tensor(found.weighted_losses), found.levels)
    if found.finite:
        # The optimizer hears of the whole step, all processes' micro-batches: Emo's emotion is
        # made of it.
        step_optimizer(run.optimizer, level_free if run.hears_level_free else found.loss)
        run.adapters.clamp_norms()
        if run.ema is not None:
            run.ema.update(run.parameters)
        run.loss_scale.note_good_step()

    run.step += 1
    run.skipped += not found.finite
    run.bad_in_a_row = 0 if found.finite else run.bad_in_a_row + 1
    return StepReport(
        step=run.step,
        loss=found.loss,
        level_free_loss=level_free,
        grad_norm=found.norm,
        lr=lr,
        epoch=run.batches.epoch,
        seconds=time.perf_counter() - started,
        skipped=not found.finite,
        signals=optimizer_signals(run.optimizer) if found.finite else {},
        levels=found.levels.tolist(),
        sample_losses=found.sample_losses,
    )


@dataclass(frozen=True, kw_only=True)
class Gradients:
    """What the passes of one step found; the gradients themselves are with the parameters."""

    levels: Tensor
    """Noise level of each sample of the step."""
    weighted_losses: list[float]
    """Loss of each sample, times its weight."""
    sample_losses: list[float]
    """The same without weights."""
    norm: float
    """L2 norm of the whole gradient before clipping."""

    @property
    def loss(self) -> float:
        """Mean weighted loss."""
        return sum(self.weighted_losses) / len(self.weighted_losses)

    @property
    def finite(self) -> bool:
        """Whether loss and gradient are."""
        return math.isfinite(self.loss) and math.isfinite(self.norm)


def gradients(run: Run) -> Gradients:
    """Leave the clipped gradient of one step with the parameters.

    Where the base model runs in fp16 and the gradient overflows, the same step is taken again with
    a lower loss scale, down to none: then it was not the scale's fault.
    """
    scale = run.loss_scale.value
    before = run.position() if run.loss_scale.active else {}
    while True:
        found = accumulated(run)
        if found.finite or not math.isfinite(found.loss) or not run.loss_scale.lower():
            break
        run.optimizer.zero_grad(set_to_none=True)
        run.go_to(before)
    if not found.finite:
        run.loss_scale.value = scale
    return found


def accumulated(run: Run) -> Gradients:
    """Run the step's micro-batches forward and backward, and clip.

    Each is run by the process whose turn it is; all draw what all need, in one order.
    """
    passes = run.job.accumulation * run.ranks.size
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    with run.ranks.together():
        for turn in range(passes):
            mine = run.ranks.takes(turn)
            parts.append(micro_batch(run, passes) if mine else passed_over(run))
    levels, weighted_losses, sample_losses = (torch.cat(part) for part in zip(*parts, strict=True))
    run.ranks.add_up(run.parameters, weighted_losses, sample_losses)

    run.loss_scale.unscale(run.parameters)
    grad_norm = clip_gradients(run)
    # The step's one wait for the device: everything the host must know before it may update.
    norm, *values = torch.cat([grad_norm.view(1), weighted_losses, sample_losses]).tolist()
    return Gradients(
        levels=levels,
        weighted_losses=values[: len(values) // 2],
        sample_losses=values[len(values) // 2 :],
        norm=norm,
    )


def micro_batch(run: Run, passes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Run one batch forward and backward.

    Args:
        run: Its adapters' gradients grow by the batch's share of the step's, in the loss scale.
        passes: Batches of the step, whose mean loss is trained.

    Returns:
        Noise levels, losses times their weights, and losses without, each ``(B,)``.
    """
    batch = next(run.batches)
    draw = run.objective.draw(batch.latents, run.generator)
    weights = run.objective.weights(draw) * batch.loss_weights
    with run.adapters.dropout(run.generator):
        backward = backward_of(run, batch, draw, weights, passes / run.loss_scale.value)
        weighted, losses = run.graphs(backward) if run.graphs else backward()
    return draw.level, weighted, losses


def passed_over(run: Run) -> tuple[Tensor, Tensor, Tensor]:
    """Draw what another process draws for its batch; its losses are zero here."""
    latents_shape = run.batches.pass_over()
    levels = run.objective.pass_over(latents_shape, run.generator)
    with run.adapters.dropout(run.generator):
        nothing = torch.zeros(len(levels), device=run.host.device)
    return levels, nothing, nothing


def set_learning_rate(run: Run) -> float:
    """Set every group's lr for the step to come and return the job's own."""
    job = run.job
    lr = job.lr * lr_factor(
        run.step, steps=job.steps, warmup_steps=job.warmup_steps, scheduler=job.scheduler
    )
    for group in run.optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)
    return lr


def clip_gradients(run: Run) -> Tensor:
    """Bound the L2 norm of the whole gradient and return what it was, a 0-dim tensor."""
    bound = run.job.max_grad_norm or float("inf")
    return torch.nn.utils.clip_grad_norm_(run.parameters, bound)
