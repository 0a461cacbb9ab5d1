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


@pytest.mark.parametrize("family", ["sdxl", "flux"])
@pytest.mark.parametrize("checkpointing", ["off", "on"])
def test_a_recorded_run_is_the_plain_one(
    comfyui, made, monkeypatch, tmp_path, family, checkpointing
) -> None:
    recorded = trained(comfyui, tmp_path, "recorded", family, checkpointing=checkpointing)
    assert made[0].recorded >= 1
    assert made[0].replayed >= 20
    monkeypatch.setattr(graphs_module(), "can_record", lambda *_: False)
    plain = trained(comfyui, tmp_path, "plain", family, checkpointing=checkpointing)
    assert len(made) == 1
    assert furthest(plain, recorded) < 1e-6


def test_samples_between_steps_move_weights_and_change_nothing(
    comfyui, made, monkeypatch, tmp_path
) -> None:
    one, other = (
        sampling(samples={"every": 8}, steps=24, name=name) for name in ("recorded", "plain")
    )
    assert comfyui.run(one) == "success"
    assert made[0].recorded >= 2
    monkeypatch.setattr(graphs_module(), "can_record", lambda *_: False)
    assert comfyui.run(other) == "success"
    files = [tmp_path / "output" / "loras" / f"{n}.safetensors" for n in ("plain", "recorded")]
    assert furthest(*map(load_file, files)) < 1e-6
