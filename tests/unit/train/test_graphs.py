"""Mirrors trustopt/train/graphs.py. Most of it needs an NVIDIA GPU, and is skipped without one."""

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


def on_gpu(host: ToyHost) -> ToyHost:
    """Move a toy to the GPU; its weights stay where they are from now on."""
    host.device = CUDA
    host.network.to(CUDA)
    prepare = host.prepare

    def prepared(noised, sigma, conditioning) -> PreparedForward:
        made = prepare(noised, sigma, conditioning)
        inputs = {name: x.to(CUDA) for name, x in made.inputs.items()}
        return PreparedForward(inputs=inputs, run=made.run)

    host.prepare = prepared
    host.weights_in_place = lambda: host.network.down.base_layer.weight.data_ptr()
    return host


class Counted(StepGraphs):
    made: ClassVar[list[StepGraphs]] = []

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.made.append(self)


@pytest.fixture
def counted(monkeypatch) -> list[Counted]:
    monkeypatch.setattr(Counted, "made", [])
    monkeypatch.setattr(graphs, "StepGraphs", Counted)
    return Counted.made


def lora(folder) -> dict[str, torch.Tensor]:
    return load_file(folder / "loras" / "toy.safetensors")


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def room() -> SimpleNamespace:
    return SimpleNamespace(available=None, spare=0, activations=0)


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
        return SimpleNamespace(available=100, spare=spare, activations=10)

    assert can_record(run_of(), memory(10))
    assert not can_record(run_of(), memory(9))


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ValueError, match="cuda_graphs must be auto or off, got 'on'"):
        JobConfig(name="toy", cuda_graphs="on")


def test_without_a_gpu_nothing_changes(tmp_path, counted) -> None:
    run_job(job(tmp_path))
    assert not counted


@needs_gpu
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"accumulation": 3},
        {"batch_size": 2},
        {"ema_decay": 0.9, "sample_every": 5},
        {"adapter": AdapterConfig(rank=2, alpha=2.0, algorithm="lokr")},
    ],
    ids=["plain", "accumulation", "batch", "ema", "lokr"],
)
@pytest.mark.parametrize("host", [ToyHost, HalfToyHost])
def test_a_recorded_run_is_the_plain_one(tmp_path, counted, host, settings) -> None:
    steps = {"steps": 20, **settings}
    run_job(job(tmp_path / "plain", host=on_gpu(host()), cuda_graphs="off", **steps))
    assert not counted
    run_job(job(tmp_path / "recorded", host=on_gpu(host()), **steps))
    assert counted[0].recorded >= 1
    assert counted[0].replayed >= 10
    assert same(lora(tmp_path / "plain"), lora(tmp_path / "recorded"))


@needs_gpu
def test_weights_that_move_are_recorded_again(tmp_path, counted) -> None:
    host = on_gpu(ToyHost())

    def move(report, _) -> None:
        if report.step == 8:
            layer = host.network.down.base_layer
            moved = layer.weight.detach().clone()
            layer.weight.fill_(float("nan"))  # a recording that still read it would show
            layer.weight = torch.nn.Parameter(moved, requires_grad=False)

    run_job(job(tmp_path / "plain", host=on_gpu(ToyHost()), cuda_graphs="off", steps=20))
    run_job(job(tmp_path / "moved", host=host, steps=20, hooks=Hooks(on_step=move)))
    assert counted[0].recorded == 2
    assert counted[0].replayed >= 12
    assert same(lora(tmp_path / "plain"), lora(tmp_path / "moved"))


@needs_gpu
def test_what_cannot_be_recorded_runs_as_it_is(tmp_path, counted) -> None:
    class Waiting(ToyHost):
        """Asks the device for a number in the middle of the network."""

        def run(self, inputs):
            assert float(inputs["sigma"].sum()) >= 0.0
            return super().run(inputs)

    said: list[str] = []
    hooks = Hooks(on_report=said.append)
    run_job(job(tmp_path / "plain", host=on_gpu(ToyHost()), cuda_graphs="off"))
    run_job(job(tmp_path / "waiting", host=on_gpu(Waiting()), hooks=hooks))
    assert counted[0].is_off
    assert counted[0].recorded == 0
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
    run_job(job(tmp_path, host=on_gpu(ToyHost()), steps=20))
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    for number in range(3):
        run_job(job(tmp_path / str(number), host=on_gpu(ToyHost()), steps=20))
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() <= before + 2**21


def test_the_block_ends_recording(tmp_path) -> None:
    run = run_of("cpu")
    run.graphs = None
    with recorded_steps(run, room(), print):
        assert run.graphs is None
    assert run.graphs is None
