"""Mirrors trustopt/train/backward.py: forward and backward depend on their inputs alone."""

from dataclasses import replace

import pytest
import torch
from toy import HalfToyHost, ToyHost, trained_run

from trustopt.config import DataConfig, ObjectiveConfig
from trustopt.train.backward import Backward, backward_of
from trustopt.train.loop import Run


def next_backward(run: Run, divisor: float, *, regularisation=False, masked=False) -> Backward:
    batch = replace(next(run.batches), is_regularisation=regularisation)
    if masked:
        shape = (len(batch.latents), 1, *batch.latents.shape[-2:])
        batch = replace(batch, masks=torch.rand(shape, generator=run.generator))
    draw = run.objective.draw(batch.latents, run.generator)
    weights = torch.rand(len(batch.latents), generator=run.generator)
    return backward_of(run, batch, draw, weights, divisor)


def results(run: Run, work, inputs) -> list[torch.Tensor]:
    losses = work(inputs)
    gradients = [p.grad.clone() for p in run.adapters.parameters()]
    run.optimizer.zero_grad(set_to_none=True)
    return [*losses, *gradients]


@pytest.mark.parametrize("kind", ["plain", "regularisation", "masked", "huber"])
@pytest.mark.parametrize("host", [ToyHost, HalfToyHost])
def test_one_batchs_work_on_anothers_inputs_is_the_others(tmp_path, host, kind) -> None:
    """What a recording does: it is made with one batch and launched with the inputs of others."""
    objective = ObjectiveConfig(loss="huber" if kind == "huber" else "mse", masked=True)
    run = trained_run(tmp_path, host(), batch_size=2, objective=objective)
    options = {name: True for name in ("regularisation", "masked") if name == kind}
    with run.host.session(run.adapters.layers, checkpointing=False):
        first = next_backward(run, 1.0, **options)
        second = next_backward(run, 3.0, **options)
        assert first.others == second.others
        wanted = results(run, second.work, second.inputs)
        found = results(run, first.work, second.inputs)
        own = results(run, first.work, first.inputs)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(own, wanted, strict=True))


def test_other_kinds_of_batches_are_told_apart(tmp_path) -> None:
    run = trained_run(tmp_path, ToyHost(), data=DataConfig(resolution=32))
    with run.host.session(run.adapters.layers, checkpointing=False):
        kinds = [
            next_backward(run, 1.0),
            next_backward(run, 1.0, regularisation=True),
            next_backward(run, 1.0, masked=True),
        ]
    keys = {(made.others, tuple(made.inputs)) for made in kinds}
    assert len(keys) == len(kinds)
