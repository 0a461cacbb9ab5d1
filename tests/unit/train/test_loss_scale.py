"""Mirrors trustopt/train/loss_scale.py: gradients of a model in fp16."""

import math

import pytest
import torch
from toy import HalfToyHost, ToyHost, job, trained_run

from trustopt.config import OptimizerConfig
from trustopt.diffusion import Objective
from trustopt.train import loss_scale
from trustopt.train.loop import Gradients, gradients
from trustopt.train.loss_scale import BACKOFF, GROWTH_INTERVAL, LARGEST, START, LossScale
from trustopt.train.run import run_job


def gradient(folder, host: ToyHost) -> tuple[torch.Tensor, Gradients, float]:
    """Return the first step's gradient, what else was found, and the scale it ended with."""
    run = trained_run(folder, host, accumulation=2, max_grad_norm=0.0)
    with host.session(run.adapters.layers, checkpointing=False):
        found = gradients(run)
    flat = torch.cat([p.grad.flatten() for p in run.parameters])
    return flat, found, run.loss_scale.value


def weigh(monkeypatch, factor: float) -> None:
    """Multiply every loss: a large picture divides each latent number's gradient likewise."""
    real = Objective.weights
    monkeypatch.setattr(Objective, "weights", lambda self, draw: factor * real(self, draw))


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def test_small_gradients_keep_their_digits(tmp_path, monkeypatch) -> None:
    weigh(monkeypatch, 2.0**-22)
    wanted, *_ = gradient(tmp_path, ToyHost())
    scaled, _, value = gradient(tmp_path, HalfToyHost())
    monkeypatch.setattr(loss_scale, "START", 1.0)
    unscaled, *_ = gradient(tmp_path, HalfToyHost())

    assert value == START
    assert error(scaled, wanted) < 2e-3
    assert error(unscaled, wanted) > 0.2


def test_an_overflow_lowers_the_scale_and_takes_the_same_step_again(tmp_path, monkeypatch) -> None:
    weigh(monkeypatch, 2.0**6)
    wanted, *_ = gradient(tmp_path, ToyHost())
    found, report, value = gradient(tmp_path, HalfToyHost())

    assert value < START
    assert report.finite
    assert error(found, wanted) < 2e-3


class BrokenBackward(HalfToyHost):
    """Gradients that are not finite, whatever the scale."""

    def run(self, inputs):
        output = super().run(inputs)
        output.register_hook(lambda grad: grad * math.nan)
        return output


def test_what_no_scale_can_mend_is_not_the_scales_fault(tmp_path) -> None:
    host = BrokenBackward()
    _, report, value = gradient(tmp_path, host)
    assert math.isfinite(report.loss)
    assert not math.isfinite(report.norm)
    assert value == START
    assert len(host.calls) == 2 * (1 + math.log(START, BACKOFF))


def test_only_fp16_is_scaled() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        scale = LossScale(dtype)
        scale.note_good_step()
        assert (scale.value, scale.lower(), scale.good_steps) == (1.0, False, 0)


def test_the_scale_by_hand() -> None:
    scale = LossScale(torch.float16)
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([START, -2.0 * START])
    scale.unscale([parameter, torch.nn.Parameter(torch.zeros(1))])
    assert parameter.grad.tolist() == [1.0, -2.0]

    assert scale.lower()
    assert scale.value == START / BACKOFF
    for _ in range(GROWTH_INTERVAL - 1):
        scale.note_good_step()
    assert scale.value == START / BACKOFF
    other = LossScale(torch.float16)
    other.load_state_dict(scale.state_dict())
    other.note_good_step()
    assert (other.value, other.good_steps) == (2.0 * START / BACKOFF, 0)
    while other.lower():
        pass
    assert other.value == 1.0
    for _ in range(40 * GROWTH_INTERVAL):
        other.note_good_step()
    assert other.value == LARGEST


@pytest.mark.parametrize("grown", [False, True], ids=["constant", "doubled on the way"])
def test_a_run_in_fp16_resumes_bit_for_bit(tmp_path, monkeypatch, grown) -> None:
    if grown:
        monkeypatch.setattr(loss_scale, "GROWTH_INTERVAL", 5)
    optimizer = OptimizerConfig(name="emonavi")
    straight = run_job(job(tmp_path / "a", host=HalfToyHost(), optimizer=optimizer))
    host = HalfToyHost()
    host.break_at, host.error = 7, RuntimeError("stop here")
    with pytest.raises(RuntimeError, match="stop here"):
        run_job(job(tmp_path / "b", host=host, optimizer=optimizer))
    resumed = run_job(job(tmp_path / "b", host=HalfToyHost(), optimizer=optimizer, resume=True))
    assert resumed.skipped == 0
    assert resumed.lora.read_bytes() == straight.lora.read_bytes()
