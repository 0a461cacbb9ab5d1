"""Mirrors trustopt/train/graphs.py.

Without a GPU nothing can be recorded: there the work itself stands in for the launch of its
recording, on the recording's own inputs, and everything around it is the same.
"""

from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from safetensors.torch import load_file
from toy import HalfToyHost, ToyHost, job

from trustopt.config import AdapterConfig, JobConfig
from trustopt.host import PreparedForward
from trustopt.train import graphs
from trustopt.train.graphs import StepGraphs, can_record, recorded_steps
from trustopt.train.hooks import Hooks
from trustopt.train.run import run_job

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="NO GPU: nothing is recorded")
CUDA = torch.device("cuda")


class Counted(StepGraphs):
    made: ClassVar[list[StepGraphs]] = []

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.made.append(self)


class Repeated(Counted):
    """Launches the work in place of its recording."""

    def _captured(self, work):
        kept = {place: place.clone() for place in self._gradients.values()}
        losses = work()
        for place, before in kept.items():
            place.copy_(before)

        def launch() -> None:
            for place, found in zip(losses, work(), strict=True):
                place.copy_(found)

        return losses, torch.enable_grad()(launch)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=needs_gpu)])
def device(request) -> torch.device:
    return torch.device(request.param)


@pytest.fixture
def counted(monkeypatch, device) -> list[StepGraphs]:
    """Return the recorders that runs make."""
    monkeypatch.setattr(Counted, "made", [])
    monkeypatch.setattr(graphs, "StepGraphs", Counted if device.type == "cuda" else Repeated)
    if device.type == "cpu":
        monkeypatch.setattr(graphs, "can_record", lambda run, _: run.job.cuda_graphs != "off")
    return Counted.made


def placed(host: ToyHost, device: torch.device) -> ToyHost:
    """Move a toy to a device; its weights stay where they are from now on."""
    host.device = device
    host.network.to(device)
    prepare = host.prepare

    def prepared(noised, sigma, conditioning) -> PreparedForward:
        made = prepare(noised, sigma, conditioning)
        inputs = {name: x.to(device) for name, x in made.inputs.items()}
        return PreparedForward(inputs=inputs, run=made.run)

    host.prepare = prepared
    host.weights_in_place = lambda: host.network.down.base_layer.weight.data_ptr()
    return host


def lora(folder) -> dict[str, torch.Tensor]:
    return load_file(folder / "loras" / "toy.safetensors")


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def room() -> SimpleNamespace:
    return SimpleNamespace(available=None, spare=0, activations=0, gradients=0)


def run_of(device="cuda", adapter=None, names=("unet",), **settings) -> SimpleNamespace:
    config = JobConfig(name="toy", adapter=adapter or AdapterConfig(), **settings)
    host = SimpleNamespace(device=torch.device(device))
    return SimpleNamespace(job=config, host=host, adapters=dict.fromkeys(names))


def test_what_can_be_recorded() -> None:
    assert can_record(run_of(), room())
    assert not can_record(run_of("cpu"), room())
    assert not can_record(run_of(cuda_graphs="off"), room())
    assert not can_record(run_of(names=("te1.text_model.x", "unet")), room())
    for rate in ("dropout", "rank_dropout", "module_dropout"):
        assert not can_record(run_of(adapter=AdapterConfig(**{rate: 0.1})), room())


def test_a_second_set_of_activations_must_fit() -> None:
    def memory(spare: int) -> SimpleNamespace:
        return SimpleNamespace(available=100, spare=spare, activations=10, gradients=3)

    assert can_record(run_of(), memory(13))
    assert not can_record(run_of(), memory(12))


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ValueError, match="cuda_graphs must be auto or off, got 'on'"):
        JobConfig(name="toy", cuda_graphs="on")


def test_without_a_gpu_nothing_is_recorded(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(graphs, "StepGraphs", None)  # making one would be an error
    assert run_job(job(tmp_path)).status == "finished"
    assert lora(tmp_path)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"accumulation": 3},
        {"batch_size": 2},
        {"batch_size": 2, "accumulation": 2, "num_images": 3},
        {"ema_decay": 0.9, "sample_every": 5},
        {"adapter": AdapterConfig(rank=2, alpha=2.0, algorithm="lokr")},
    ],
    ids=["plain", "accumulation", "batch", "two shapes a step", "ema", "lokr"],
)
@pytest.mark.parametrize("host", [ToyHost, HalfToyHost])
def test_a_recorded_run_is_the_plain_one(tmp_path, device, counted, host, settings) -> None:
    steps = {"steps": 20, **settings}
    run_job(job(tmp_path / "plain", host=placed(host(), device), cuda_graphs="off", **steps))
    assert not counted
    run_job(job(tmp_path / "recorded", host=placed(host(), device), **steps))
    assert counted[0].recorded >= 1
    assert counted[0].replayed >= 10
    assert same(lora(tmp_path / "plain"), lora(tmp_path / "recorded"))


def test_weights_that_move_are_recorded_again(tmp_path, device, counted) -> None:
    host = placed(ToyHost(), device)

    def move(report, _) -> None:
        if report.step == 8:
            layer = host.network.down.base_layer
            moved = layer.weight.detach().clone()
            layer.weight.fill_(float("nan"))  # a recording that still read it would show
            layer.weight = torch.nn.Parameter(moved, requires_grad=False)

    plain = placed(ToyHost(), device)
    run_job(job(tmp_path / "plain", host=plain, cuda_graphs="off", steps=20))
    run_job(job(tmp_path / "moved", host=host, steps=20, hooks=Hooks(on_step=move)))
    assert counted[0].recorded == 2
    assert counted[0].replayed >= 12
    assert same(lora(tmp_path / "plain"), lora(tmp_path / "moved"))


def test_weights_that_never_stay_end_recording(tmp_path, device, counted) -> None:
    host, said = placed(ToyHost(), device), []
    host.weights_in_place = object  # elsewhere each time it is asked
    plain = placed(ToyHost(), device)
    run_job(job(tmp_path / "plain", host=plain, cuda_graphs="off", steps=30))
    hooks = Hooks(on_report=said.append)
    run_job(job(tmp_path / "moving", host=host, steps=30, hooks=hooks))
    assert counted[0].is_off
    assert sum("move too often" in text for text in said) == 1
    assert same(lora(tmp_path / "plain"), lora(tmp_path / "moving"))


def test_weights_off_the_device_are_not_recorded(tmp_path, device, counted) -> None:
    host = placed(ToyHost(), device)
    host.weights_in_place = lambda: None
    run_job(job(tmp_path, host=host))
    assert counted[0].recorded == counted[0].replayed == 0
    assert not counted[0].is_off


def test_a_recording_that_does_something_else_is_not_used(
    tmp_path, device, counted, monkeypatch
) -> None:
    captured = graphs.StepGraphs._captured

    def wrong(self, work):
        losses, launch = captured(self, work)

        def twice() -> None:
            launch()
            launch()

        return losses, twice

    monkeypatch.setattr(graphs.StepGraphs, "_captured", wrong)
    said: list[str] = []
    plain = placed(ToyHost(), device)
    run_job(job(tmp_path / "plain", host=plain, cuda_graphs="off"))
    hooks = Hooks(on_report=said.append)
    run_job(job(tmp_path / "wrong", host=placed(ToyHost(), device), hooks=hooks))
    assert sum("gradient was 1.0e+00 off" in text for text in said) == 1
    assert counted[0].replayed == 0
    assert same(lora(tmp_path / "plain"), lora(tmp_path / "wrong"))


def test_stop_while_a_step_is_recorded_is_heard(tmp_path, device, counted, monkeypatch) -> None:
    class StopError(Exception):
        """What an application raises where its user pressed Stop."""

    def interrupted(self, work):
        raise StopError

    monkeypatch.setattr(graphs.StepGraphs, "_captured", interrupted)
    with pytest.raises(StopError):
        run_job(job(tmp_path, host=placed(ToyHost(), device)))
    assert lora(tmp_path)


@needs_gpu
def test_what_cannot_be_recorded_runs_as_it_is(tmp_path, monkeypatch) -> None:
    class Waiting(ToyHost):
        """Asks the device for a number in the middle of the network."""

        def run(self, inputs):
            assert float(inputs["sigma"].sum()) >= 0.0
            return super().run(inputs)

    monkeypatch.setattr(Counted, "made", [])
    monkeypatch.setattr(graphs, "StepGraphs", Counted)
    said: list[str] = []
    hooks = Hooks(on_report=said.append)
    run_job(job(tmp_path / "plain", host=placed(ToyHost(), CUDA), cuda_graphs="off"))
    run_job(job(tmp_path / "waiting", host=placed(Waiting(), CUDA), hooks=hooks))
    assert Counted.made[0].is_off
    assert Counted.made[0].recorded == 0
    assert sum("CUDA graphs are off" in text for text in said) == 1
    assert same(lora(tmp_path / "plain"), lora(tmp_path / "waiting"))
    # The device is as it was: it draws, and frees what it is told to.
    assert torch.rand(3, device=CUDA).isfinite().all()
    before = torch.cuda.memory_allocated()
    block = torch.empty(2**26, device=CUDA)
    del block
    torch.cuda.empty_cache()
    assert torch.cuda.memory_allocated() == before


@needs_gpu
def test_recordings_give_their_memory_back(tmp_path) -> None:
    run_job(job(tmp_path, host=placed(ToyHost(), CUDA), steps=20))
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    for number in range(3):
        run_job(job(tmp_path / str(number), host=placed(ToyHost(), CUDA), steps=20))
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() <= before + 2**21


def test_the_block_ends_recording(tmp_path) -> None:
    run = run_of("cpu")
    run.graphs = None
    with recorded_steps(run, room(), print):
        assert run.graphs is None
    assert run.graphs is None
