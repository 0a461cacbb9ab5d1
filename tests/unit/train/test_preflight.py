"""Mirrors trustopt/train/preflight.py: what is planned, chosen, refused and measured."""

import json
import mmap
from dataclasses import replace

import pytest
import torch
from toy import ToyHost, job

from trustopt.adapters import build_adapters
from trustopt.config import AdapterConfig, DataConfig, OptimizerConfig
from trustopt.host import HostMemory, LayerShape
from trustopt.train.hooks import Hooks
from trustopt.train.peak import PeakMeter
from trustopt.train.preflight import GIB, MIB, MemoryPlan, choose, gib, plan_memory, refusal
from trustopt.train.run import check, run_job


def plan(**changes) -> MemoryPlan:
    """A plan of an SDXL run on a card of 12 GiB, checkpointing off."""
    values = {
        "device": "cuda:0",
        "available": 12 * GIB,
        "can_offload": False,
        "weights": 5 * GIB,
        "adapters": 160 * MIB,
        "gradients": 160 * MIB,
        "optimizer": 120 * MIB,
        "activations": 6 * GIB,
        "activations_plain": 6 * GIB,
        "workspace": 512 * MIB,
        "checkpointing": False,
        "why": "",
    }
    return MemoryPlan(**{**values, **changes})


def test_sums() -> None:
    made = plan()
    assert made.growth == 280 * MIB + 6 * GIB
    assert made.total == 440 * MIB + 11 * GIB
    assert made.headroom == round(0.6 * GIB) + 512 * MIB
    assert made.reserve == made.growth + made.headroom
    assert made.missing == 0
    assert made.spare == 12 * GIB - made.total - made.headroom
    assert plan(available=11 * GIB).missing == 440 * MIB


@pytest.mark.parametrize(
    ("available", "setting", "checkpointing"),
    [
        (13 * GIB, "auto", False),
        (12 * GIB, "auto", True),  # it would fit, but not with headroom
        (7 * GIB, "auto", True),
        (None, "auto", True),
        (7 * GIB, "off", False),
        (13 * GIB, "on", True),
    ],
)
def test_checkpointing_is_off_only_where_everything_fits(available, setting, checkpointing) -> None:
    chosen = choose(setting, plan(available=available), GIB)
    assert chosen.checkpointing is checkpointing
    assert chosen.activations == (GIB if checkpointing else 6 * GIB)
    assert chosen.activations_plain == 6 * GIB
    assert chosen.why


def toy_plan(tmp_path, memory: HostMemory | None = None, **settings) -> MemoryPlan:
    host = ToyHost()
    host.memory_told = memory or host.memory_told
    made = job(tmp_path, host=host, **settings)
    return plan_memory(made.config, host, check(made), 32 * 32)


def test_parts_are_counted_from_the_job(tmp_path) -> None:
    adamw = OptimizerConfig(name="adamw")
    made = toy_plan(tmp_path, optimizer=adamw, adapter=AdapterConfig(rank=2))
    trained = 2 * (4 + 6) * 2  # rank 2 on 4 -> 6 and 6 -> 4
    assert (made.weights, made.adapters, made.gradients) == (58 * 4, trained * 4, trained * 4)
    # Two float32 moments, and a step counter for each tensor.
    assert trained * 8 <= made.optimizer <= trained * 8 + 64
    assert toy_plan(tmp_path, ema_decay=0.9).adapters == 2 * made.adapters
    assert toy_plan(tmp_path, batch_size=2).activations_plain > made.activations_plain


def test_text_encoders_count_only_while_they_train(tmp_path) -> None:
    host = ToyHost()
    host.memory_told = HostMemory(weights=1000, text_encoders=500)
    made = job(tmp_path, host=host)
    te = "te1.text_model.encoder.layers.0.mlp.fc1"
    both = {**host.layers(), te: LayerShape(kind="linear", in_features=4, out_features=4)}
    for layers, weights in ((host.layers(), 1000), (both, 1500)):
        adapters = build_adapters(layers, made.config.adapter, torch.Generator())
        assert plan_memory(made.config, host, adapters, 32 * 32).weights == weights


def test_what_cannot_fit_is_refused_before_any_work_with_the_remedy(tmp_path) -> None:
    host = ToyHost()
    host.memory_told = HostMemory(weights=9 * GIB, available=6 * GIB)
    with pytest.raises(
        ValueError, match=r"9\.00 GiB on cpu, and 6\.00 GiB are free: .*fp8"
    ) as error:
        run_job(job(tmp_path, host=host))
    assert "memory plan for cpu" in str(error.value)
    assert host.images_encoded == 0
    assert not list((tmp_path / "runs").glob("*"))


def test_weights_stay_off_the_device_where_the_host_can(tmp_path) -> None:
    told = HostMemory(weights=9 * GIB, available=6 * GIB, can_offload=True)
    made = toy_plan(tmp_path, told)
    assert made.checkpointing
    assert made.left_off == made.total + made.headroom - made.available
    assert "of the base model stay off the device" in made.report()


def test_a_host_that_can_offload_is_refused_when_the_rest_alone_does_not_fit(tmp_path) -> None:
    told = HostMemory(weights=1000, available=0, can_offload=True)
    with pytest.raises(ValueError, match="are free"):
        toy_plan(tmp_path, told)


@pytest.mark.parametrize(
    ("changes", "settings", "words"),
    [
        ({"available": 11 * GIB}, {}, "set checkpointing to on"),
        ({"available": 11 * GIB}, {"batch_size": 4}, "lower batch_size to 3"),
        ({"available": 11 * GIB}, {}, "lower the resolution to 960"),
        ({"available": 6 * GIB}, {}, "load the base model in fp8"),
        ({"available": 6 * GIB, "optimizer": 2 * GIB}, {}, "lower the rank"),
    ],
)
def test_remedies(changes, settings, words, tmp_path) -> None:
    config = job(tmp_path, data=DataConfig(resolution=1024), **settings).config
    assert words in refusal(config, plan(**changes), GIB).splitlines()[0]


def test_a_proposed_batch_size_would_fit(tmp_path) -> None:
    made = plan(available=8 * GIB, activations=16 * GIB)
    config = job(tmp_path, batch_size=8).config
    assert "lower batch_size to 1" in refusal(config, made, GIB)
    smaller = replace(made, activations=2 * GIB)
    assert smaller.missing == 0


def test_report_for_people() -> None:
    text = plan(why="everything fits without it").report()
    assert text.splitlines() == [
        "memory plan for cuda:0 (free for this: 12.00 GiB)",
        "  base model           5.00 GiB",
        "  adapters (float32)    160 MiB",
        "  gradients             160 MiB",
        "  optimizer state       120 MiB",
        "  activations          6.00 GiB",
        "  together            11.43 GiB",
        "checkpointing is off: everything fits without it",
        "this is tight: 584 MiB are left free",
    ]
    assert [gib(n) for n in (3 * GIB, 5 * MIB, 2048)] == ["3.00 GiB", "5 MiB", "2 KiB"]


def test_a_job_follows_its_plan_and_tells_estimate_and_measurement(tmp_path) -> None:
    reports, host = [], ToyHost()
    host.memory_told = HostMemory(weights=232, available=8 * GIB)
    result = run_job(job(tmp_path, host=host, hooks=Hooks(on_report=reports.append)))

    assert host.sessions == [(False, result.memory.reserve)]
    assert reports[0] == result.memory.report()
    assert "everything fits without it" in reports[0]
    assert reports[-1].endswith(f"{gib(result.memory.growth)} were planned")
    written = json.loads((result.folder.path / "result.json").read_text())["memory"]
    assert written["checkpointing"] is False
    assert written["grown"] == result.grown
    assert written["total"] == result.memory.total


@pytest.mark.parametrize(("setting", "told"), [("on", "True"), ("off", "False")])
def test_the_file_tells_whether_it_was_trained_with_checkpointing(tmp_path, setting, told) -> None:
    from safetensors import safe_open

    result = run_job(job(tmp_path, checkpointing=setting))
    with safe_open(result.lora, "pt") as file:
        assert file.metadata()["ss_gradient_checkpointing"] == told


class CountedMeter(PeakMeter):
    """Over a device whose memory the test decides."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self.held = self.peak = 0

    def hold(self, held: int) -> None:
        self.held, self.peak = held, max(self.peak, held)

    def _restart(self) -> int:
        self.peak = self.held
        return self.held

    def _read(self) -> tuple[int, int]:
        return self.peak, self.held


def test_the_meter_measures_steps_and_not_what_is_between() -> None:
    meter = CountedMeter()
    meter.hold(100)
    meter.resume()
    meter.hold(150)
    meter.hold(120)
    meter.pause()
    assert meter.grown == 50
    meter.hold(900)  # a sampled picture
    meter.hold(220)  # and the VAE that stays behind
    meter.resume()
    meter.hold(260)  # 60 more than 220, on top of the 20 of the first step
    meter.pause()
    assert meter.grown == 60


def test_the_meter_sees_real_memory_where_the_system_tells() -> None:
    meter = PeakMeter(torch.device("cpu"))
    meter.resume()
    # Not a tensor: that might lie where earlier tests' tensors have lain, which are still resident.
    with mmap.mmap(-1, 64 * MIB) as held:
        held.write(b"x" * len(held))
    meter.pause()
    assert meter.grown is None or meter.grown > 50 * MIB
