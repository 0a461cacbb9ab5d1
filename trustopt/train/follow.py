"""The processes beside the first: they train as it does, and neither write nor speak.

``follow_job`` goes through ``run_job``'s stages in the same order, because what all processes do
together (encode, agree on the state to resume, each step, the validation) they must do at once.
"""

from pathlib import Path
from typing import Literal

import torch

from ..signals import Recorder
from .checkpoint import load_latest
from .job import Job, fingerprint_of
from .keeper import due_validation
from .loop import StepReport, StopTraining, train
from .preflight import plan_memory
from .run import build_run, check, encode, largest_area, validation_of


@torch.inference_mode(False)
def follow_job(job: Job) -> Literal["finished", "stopped"]:
    """Train a job beside the process that runs ``run_job``, and return how training ended.

    Of the hooks, ``on_stage``, ``on_start`` and ``on_step`` are called; the recorder stays empty.

    Raises:
        BaseException: What went wrong here, or ``PeerError`` for what went wrong elsewhere.
    """
    ranks, hooks, unused = job.ranks, job.hooks, Recorder()
    adapters = check(job)
    memory = plan_memory(job.config, job.host, adapters, largest_area(job))
    dataset = encode(job, adapters)
    run = build_run(job, dataset, adapters)
    state = Path(ranks.from_first(lambda: ""))
    if state.name:
        load_latest(run, state, fingerprint_of(job), anyway=job.anyway)
    validation = validation_of(job, dataset)

    def on_step(report: StepReport) -> None:
        due_validation(run, validation)
        hooks.on_step(report, unused)

    with job.host.session(
        adapters.layers, checkpointing=memory.checkpointing, reserve=memory.reserve
    ):
        hooks.on_start(run, state)
        try:
            train(run, on_step)
        except StopTraining:
            return "stopped"
    return "finished"
