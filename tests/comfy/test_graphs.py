"""Steps recorded as CUDA graphs in ComfyUI: nothing of it can be seen in the LoRA.

``COMFYUI_DEVICE=cuda`` and ``cuda-dynamic`` run it, see conftest.py; on a CPU all is skipped.
"""

import importlib

import comfy.model_management
import pytest
import torch
from safetensors.torch import load_file
from trustopt_test_prompts import training
from trustopt_test_sampling import sampling

import nodes

pytestmark = pytest.mark.skipif(
    comfy.model_management.get_torch_device().type != "cuda", reason="NO GPU: nothing is recorded"
)


def graphs_module():
    package = nodes.NODE_CLASS_MAPPINGS["TrustOpt_TrainLora"].__module__.rpartition(".nodes.")[0]
    return importlib.import_module(f"{package}.trustopt.train.graphs")


@pytest.fixture
def made(comfyui, monkeypatch) -> list:
    """Return the recorders that runs make."""
    module, made = graphs_module(), []

    class Kept(module.StepGraphs):
        def __init__(self, *arguments) -> None:
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(module, "StepGraphs", Kept)
    return made


def trained(comfyui, folder, name: str, family: str, **widgets) -> dict[str, torch.Tensor]:
    prompt = training(family, steps=24, name=name, **widgets)
    assert comfyui.run(prompt) == "success"
    return load_file(folder / "output" / "loras" / f"{name}.safetensors")


def furthest(one: dict, other: dict) -> float:
    assert one.keys() == other.keys()
    pairs = [(one[key].double(), other[key].double()) for key in one]
    return max(float((a - b).norm() / a.norm().clamp_min(1e-30)) for a, b in pairs)


def as_near_as_itself(one: dict, again: dict, other: dict) -> bool:
    """Return whether a run is no further from another than that is when it is run again.

    Some of torch's kernels add up in an order that differs from run to run.
    """
    return furthest(one, other) <= 4.0 * furthest(one, again) + 1e-6


@pytest.mark.parametrize("family", ["sdxl", "flux"])
@pytest.mark.parametrize("checkpointing", ["off", "on"])
def test_a_recorded_run_is_the_plain_one(
    comfyui, made, monkeypatch, tmp_path, family, checkpointing
) -> None:
    recorded = trained(comfyui, tmp_path, "recorded", family, checkpointing=checkpointing)
    assert made[0].recorded >= 1
    assert made[0].replayed >= 20
    monkeypatch.setattr(graphs_module(), "can_record", lambda *_: False)
    plain, again = (
        trained(comfyui, tmp_path, name, family, checkpointing=checkpointing)
        for name in ("plain", "again")
    )
    assert len(made) == 1
    assert as_near_as_itself(plain, again, recorded)


def test_samples_between_steps_move_weights_and_change_nothing(
    comfyui, made, monkeypatch, tmp_path
) -> None:
    def sampled(name: str) -> dict[str, torch.Tensor]:
        prompt = sampling(samples={"every": 8}, steps=24, name=name)
        assert comfyui.run(prompt) == "success"
        return load_file(tmp_path / "output" / "loras" / f"{name}.safetensors")

    recorded = sampled("recorded")
    assert made[0].recorded >= 2
    monkeypatch.setattr(graphs_module(), "can_record", lambda *_: False)
    assert as_near_as_itself(sampled("plain"), sampled("again"), recorded)
