"""One whole job: check, encode, build, resume, train, save, re-read. Start at ``run_job``."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from ..adapters import (
    AdapterSet,
    SaveReport,
    build_adapters,
    continue_adapters,
    is_text_encoder,
    read_lora,
    select_layers,
)
from ..config import JobConfig
from ..data import ImageSet, TrainingSet, check_image_set, prepare
from ..data.dataset import plan_image_set
from ..diffusion import Objective
from ..host import Host
from ..optim import build_optimizer
from ..signals import Recorder, Signals
from .checkpoint import load_latest
from .effect import save_and_try
from .ema import ExponentialAverage
from .folders import Folders, RunFolder, find_run, new_run
from .hooks import Hooks
from .keeper import Keeper, trainer_options
from .loop import Run, StepReport, StopTraining, train
from .lora_file import LoraWriter
from .peak import PeakMeter
from .preflight import MemoryPlan, plan_memory
from .validation import Validation


@dataclass(kw_only=True)
class Job:
    """A job with everything it needs around it."""

    config: JobConfig
    host: Host
    images: ImageSet
    folders: Folders
    hooks: Hooks = field(default_factory=Hooks)
    notes: Mapping[str, Any] = field(default_factory=dict)
    """More for the LoRA's metadata: fields of ``TrainingRecord`` such as plan and workflow."""
    private: bool = False
    """Leave captions, folder names and the workflow out of the LoRA's metadata."""
    start_from: Path | None = None
    """A LoRA file to go on from, with its algorithm, layers and ranks; a new run all the same."""
    resume: bool = False
    """Go on with the newest run of this name, if one has a saved state."""
    anyway: bool = False
    """Resume although model or data differ from the saved run's."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run leaves behind."""

    status: Literal["finished", "stopped", "faulty"]
    """``faulty``: the file is there, but ``report`` says what is wrong with it."""
    lora: Path
    """The saved file."""
    report: SaveReport
    """What re-reading the file showed."""
    folder: RunFolder
    signals: Signals
    steps: int
    skipped: int
    """Steps left out because loss or gradient was not finite."""
    seconds: float
    memory: MemoryPlan
    """What was planned before step 1."""
    grown: int | None
    """Bytes the steps really added on the device, at most; ``memory.growth`` is the estimate."""


@torch.inference_mode(False)  # ComfyUI runs nodes in inference mode, whose tensors cannot train
def run_job(job: Job) -> RunResult:
    """Train a LoRA, save it, and read it back.

    Raises:
        ValueError: For input that cannot work, before any encoding or training.
        NonFiniteError: If training diverged; the last good weights are saved.
        BaseException: Whatever interrupts training; what was trained is saved first.
    """
    started = time.perf_counter()
    adapters = check(job)
    memory = plan_memory(job.config, job.host, adapters, largest_area(job))
    job.hooks.on_report(memory.report())
    dataset = prepare(
        job.images,
        job.config.data,
        job.host,
        cache_dir=job.folders.cache,
        seed=job.config.seed,
        progress=job.hooks.on_stage,
        # Text encoders that learn give another prompt at every step.
        encode_captions=not any(is_text_encoder(name) for name in adapters),
    )
    job.hooks.on_report(dataset.report(job.config.batch_size))
    run = build_run(job, dataset, adapters)
    fingerprint = fingerprint_of(job)
    folder = open_folder(job, run, fingerprint)
    writer = LoraWriter(
        run=run,
        dataset=dataset,
        checkpointing=memory.checkpointing,
        notes=job.notes,
        private=job.private,
    )
    meter = PeakMeter(job.host.device)
    with open_recorder(folder, run.step) as recorder:
        keeper = Keeper(
            run=run,
            hooks=job.hooks,
            folder=folder,
            writer=writer,
            recorder=recorder,
            fingerprint=fingerprint,
            validation=validation_of(job, dataset),
            saved_step=run.step,
        )
        status, report = train_in_session(keeper, memory, meter)
        job.hooks.on_report(memory.compared_with(meter.grown))
        result = RunResult(
            status=status if report.ok else "faulty",
            lora=folder.lora,
            report=report,
            folder=folder,
            signals=recorder.signals(),
            steps=run.step,
            skipped=run.skipped,
            seconds=time.perf_counter() - started,
            memory=memory,
            grown=meter.grown,
        )
    folder.write_json("result.json", describe(result))
    return result


def check(job: Job) -> AdapterSet:
    """Refuse what cannot work before any work is done, and build the adapters.

    Raises:
        ValueError: The first line says what was given, what is allowed and how to mend it.
    """
    config = job.config
    job.folders.check_writable()
    Objective(config.objective, prediction=job.host.prediction, sigmas=job.host.sigmas)
    check_image_set(
        job.images,
        config.data,
        batch_size=config.batch_size,
        multiple=job.host.pixel_multiple,
        seed=config.seed,
    )
    adapters = first_adapters(job)
    # A trial optimizer on one small tensor finds a wrong name, option or missing package now.
    trial = [torch.nn.Parameter(torch.zeros(1))]
    build_optimizer(config.optimizer.name, trial, lr=config.lr, options=config.optimizer.options)
    return adapters


def first_adapters(job: Job) -> AdapterSet:
    """Return the adapters as training finds them: new ones, or those of ``start_from``.

    They are on the device from the start: optimizer and average keep their state there.

    Raises:
        ValueError: If no layer matches, or the file cannot be continued on this model.
    """
    config, host = job.config.adapter, job.host
    generator = torch.Generator().manual_seed(job.config.seed)
    # Sorted, so that a seed gives the same initial weights whatever order a host lists layers in.
    layers = dict(sorted(host.layers().items()))
    if job.start_from is None:
        chosen = select_layers(layers, config, host.family)
        return build_adapters(chosen, config, generator, device=host.device)
    lora = read_lora(job.start_from)
    adapters = continue_adapters(lora, layers, host.family, config, generator, device=host.device)
    # What the file decides is what this run is: in its states, its metadata, its fingerprint.
    job.config = replace(job.config, adapter=adapters.config)
    return adapters


def largest_area(job: Job) -> int:
    """Return the pixels of the largest bucket; no picture is read."""
    plan = plan_image_set(job.images, job.config.data, job.host.pixel_multiple)
    return max(width * height for width, height in plan.buckets)


def build_run(job: Job, dataset: TrainingSet, adapters: AdapterSet) -> Run:
    """Build the optimizer, objective and data stream around the adapters, at step 0."""
    config, host = job.config, job.host
    # One stream of numbers each, so that a setting of the noise does not reorder the pictures.
    generator = torch.Generator().manual_seed(config.seed + 1)
    order = torch.Generator().manual_seed(config.seed + 2)
    return Run(
        job=config,
        host=host,
        adapters=adapters,
        optimizer=build_optimizer(
            config.optimizer.name,
            adapters.parameter_groups(),
            lr=config.lr,
            options=config.optimizer.options,
        ),
        objective=Objective(config.objective, prediction=host.prediction, sigmas=host.sigmas),
        batches=dataset.batches(config.batch_size, config.repeats, order),
        generator=generator,
        hears_level_free=trainer_options(config).get("loss_signal") == "timestep-normalised",
        ema=ExponentialAverage(adapters.parameters(), config.ema_decay)
        if config.ema_decay
        else None,
    )


def fingerprint_of(job: Job) -> dict[str, Any]:
    """Return what must be the same for a resume: model, adapter, optimizer, data, seed."""
    config = job.config
    return {
        "model": dict(job.host.identity()),
        "data": {"images": job.images.fingerprint(), **asdict(config.data)},
        "adapter": asdict(config.adapter),
        "optimizer": config.optimizer.name,
        "seed": config.seed,
        "batch": [config.batch_size, config.accumulation, config.repeats],
    }


def open_folder(job: Job, run: Run, fingerprint: Mapping[str, Any]) -> RunFolder:
    """Return the run's folder: the one resumed, its state loaded, or a new one."""
    folder = find_run(job.folders, job.config.name) if job.resume else None
    if folder is not None:
        step = load_latest(run, folder.state, fingerprint, anyway=job.anyway)
        job.hooks.on_report(f"resuming {folder.path.name} after step {step}")
    else:
        folder = new_run(job.folders, job.config.name)
        if job.resume:
            job.hooks.on_report(f"no saved state of {job.config.name}: starting a new run")
    folder.write_json("job.json", {**job.config.to_dict(), "fingerprint": fingerprint})
    return folder


def open_recorder(folder: RunFolder, step: int) -> Recorder:
    """Return the run's recorder; a resumed one goes on after ``step`` without gap or repeat."""
    if step:
        return Recorder.resume(folder.signals, step)
    return Recorder(folder.signals)


def validation_of(job: Job, dataset: TrainingSet) -> Validation | None:
    """Return the validation loss's data, if pictures are held out."""
    batches = list(dataset.validation_batches(job.config.batch_size))
    return Validation(batches, seed=job.config.seed) if batches else None


def train_in_session(
    keeper: Keeper, memory: MemoryPlan, meter: PeakMeter
) -> tuple[Literal["finished", "stopped"], SaveReport]:
    """Train with the adapters in the model, save, and try the file in the model.

    Whatever ends training, what was trained is on disk.
    """
    run, hooks = keeper.run, keeper.hooks
    status: Literal["finished", "stopped"] = "finished"

    def on_step(report: StepReport) -> None:
        meter.pause()  # pictures sampled between steps are not what was planned
        keeper.on_step(report)
        meter.resume()

    with run.host.session(
        run.adapters.layers, checkpointing=memory.checkpointing, reserve=memory.reserve
    ):
        hooks.on_start(run, keeper.folder.path)
        keeper.sample()
        meter.resume()
        try:
            train(run, on_step)
        except StopTraining:
            status = "stopped"
        except BaseException as error:
            keeper.keep_after_error(error)
            raise
        meter.pause()
        keeper.save()
        keeper.sample()
        report = save_and_try(keeper.writer, keeper.folder.lora)
    return status, report


def describe(result: RunResult) -> dict[str, Any]:
    """Return ``result.json``'s content."""
    return {
        "status": result.status,
        "step": result.steps,
        "skipped": result.skipped,
        "seconds": round(result.seconds, 3),
        "lora": result.lora.name,
        "check": result.report.summary(),
        "memory": {**result.memory.to_dict(), "grown": result.grown},
        "sshs_model_hash": result.report.model_hash,
        "time": time.time(),
    }
