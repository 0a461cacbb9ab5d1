"""One whole job: check, encode, build, resume, train, save, re-read. Start at ``run_job``."""

import time
from contextlib import ExitStack
from dataclasses import replace
from typing import Literal

import torch

from ..adapters import (
    AdapterSet,
    SaveReport,
    build_adapters,
    continue_adapters,
    is_text_encoder,
    read_lora,
    remove_leftovers,
    select_layers,
)
from ..data import TrainingSet, check_image_set, fill_cache, prepare
from ..data.dataset import plan_image_set
from ..diffusion import Objective
from ..optim import build_optimizer
from ..signals import Recorder
from .checkpoint import check_same, load_latest
from .disk import check_space
from .effect import save_and_try
from .ema import ExponentialAverage
from .folders import RunFolder, find_run, new_run
from .graphs import recorded_steps
from .job import Job, RunResult, describe, fingerprint_of
from .keeper import Keeper, trainer_options
from .lock import claimed
from .loop import Run, StepReport, StopTraining, train
from .lora_file import LoraWriter
from .peak import PeakMeter
from .preflight import MemoryPlan, plan_memory
from .validation import Validation


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
    with ExitStack() as claims:
        old = find_run(job.folders, job.config.name) if job.resume else None
        if old is not None:
            claims.enter_context(claimed(old.path))
            check_same(old.state, fingerprint_of(job), anyway=job.anyway)
        memory = plan(job, adapters, old)
        dataset = encode(job, adapters)
        run = build_run(job, dataset, adapters)
        folder = old or new_run(job.folders, job.config.name)
        if old is None:
            claims.enter_context(claimed(folder.path))
        begin(job, run, folder, resumed=old is not None)
        job.ranks.from_first(lambda: "" if old is None else str(old.state))
        meter = PeakMeter(job.host.device)
        with open_recorder(folder, run.step) as recorder:
            keeper = keeper_of(job, run, dataset, folder, recorder, memory)
            status, report = train_in_session(keeper, memory, meter)
            signals = recorder.signals()
        job.hooks.on_report(memory.compared_with(meter.grown))
        result = RunResult(
            status=status if report.ok else "faulty",
            lora=folder.lora,
            report=report,
            folder=folder,
            signals=signals,
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
    if config.data.class_word:
        job.images = job.images.preserving(config.data.class_word)
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


def plan(job: Job, adapters: AdapterSet, old: RunFolder | None = None) -> MemoryPlan:
    """Plan memory and disk, and say so; nothing is encoded yet.

    Args:
        job: The job.
        adapters: What it trains.
        old: The run that is resumed, if one is.

    Raises:
        ValueError: If either cannot be enough.
    """
    memory = plan_memory(job.config, job.host, adapters, largest_area(job))
    job.hooks.on_report(memory.report())
    check_space(job, adapters, memory, None if old is None else old.state)
    return memory


def largest_area(job: Job) -> int:
    """Return the pixels of the largest bucket; no picture is read."""
    plan = plan_image_set(job.images, job.config.data, job.host.pixel_multiple)
    return max(width * height for width, height in plan.buckets)


def encode(job: Job, adapters: AdapterSet) -> TrainingSet:
    """Encode what no earlier run has encoded, and say what is trained on."""
    settings = {
        "cache_dir": job.folders.cache,
        "progress": job.hooks.on_stage,
        # Text encoders that learn give another prompt at every step.
        "encode_captions": not any(is_text_encoder(name) for name in adapters),
    }
    if job.ranks.size > 1 and job.folders.cache is not None:
        with job.ranks.together():
            fill_cache(job.images, job.config.data, job.host, takes=job.ranks.takes, **settings)
    dataset = prepare(job.images, job.config.data, job.host, seed=job.config.seed, **settings)
    job.hooks.on_encoded()
    job.hooks.on_report(dataset.report(job.config.batch_size))
    return dataset


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
        ranks=job.ranks,
        hears_level_free=trainer_options(config).get("loss_signal") == "timestep-normalised",
        ema=ExponentialAverage(adapters.parameters(), config.ema_decay)
        if config.ema_decay
        else None,
    )


def begin(job: Job, run: Run, folder: RunFolder, *, resumed: bool) -> None:
    """Bring a resumed run to its newest saved state, and write down what was asked."""
    fingerprint, say = fingerprint_of(job), job.hooks.on_report
    if resumed:
        remove_leftovers(folder.lora)
        saved = load_latest(run, folder.state, fingerprint, anyway=job.anyway)
        say(f"resuming {folder.path.name} after step {saved.step}")
        if saved.changed:
            say("going on although " + "; ".join(saved.changed))
        if saved.step >= run.job.steps:
            say(f"all {run.job.steps} steps are done already: raise steps to train it further")
    elif job.resume:
        say(f"no saved state of {job.config.name}: starting a new run")
    folder.write_json("job.json", {**job.config.to_dict(), "fingerprint": fingerprint})


def open_recorder(folder: RunFolder, step: int) -> Recorder:
    """Return the run's recorder; a resumed one goes on after ``step`` without gap or repeat."""
    if step:
        return Recorder.resume(folder.signals, step)
    return Recorder(folder.signals)


def keeper_of(
    job: Job,
    run: Run,
    dataset: TrainingSet,
    folder: RunFolder,
    recorder: Recorder,
    memory: MemoryPlan,
) -> Keeper:
    """Return what keeps the run on disk."""
    writer = LoraWriter(
        run=run,
        dataset=dataset,
        checkpointing=memory.checkpointing,
        notes=job.notes,
        private=job.private,
    )
    return Keeper(
        run=run,
        hooks=job.hooks,
        folder=folder,
        writer=writer,
        recorder=recorder,
        fingerprint=fingerprint_of(job),
        validation=validation_of(job, dataset),
        saved_step=run.step,
    )


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

    session = run.host.session(
        run.adapters.layers, checkpointing=memory.checkpointing, reserve=memory.reserve
    )
    with session, recorded_steps(run, memory, hooks.on_report):
        hooks.on_start(run, keeper.folder.path)
        try:
            if run.step == 0:
                keeper.sample()
            meter.resume()
            try:
                train(run, on_step)
            except StopTraining:
                status = "stopped"
            meter.pause()
            keeper.save()
            keeper.sample()
            report = save_and_try(keeper.writer, keeper.folder.lora)
        except BaseException as error:
            keeper.keep_after_error(error)
            raise
    return status, report
