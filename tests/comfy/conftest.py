"""Boots a real ComfyUI in this process, on the CPU, and makes the pack's bridge importable.

ComfyUI is found by ``COMFYUI_PATH`` or comfy-cli's default workspace. Without one nothing here is
collected, and the report's header says so.
"""

import importlib.util
import logging
import os
import sys
import types
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
PACK = "trustopt_pack"


def load_file(name: str, path: Path) -> types.ModuleType:
    """Import a file under a name of our choosing."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def find_comfyui() -> Path | None:
    """Return the ComfyUI checkout that ``python -m tests`` would use."""
    return load_file("trustopt_all_tests", ROOT / "tests" / "__main__.py").find_comfyui()


def boot_comfyui(path: Path) -> None:
    """Import ComfyUI's core; its folder comes before ours, whose ``nodes`` it has.

    It runs on the CPU unless ``COMFYUI_DEVICE`` is ``cuda``, or ``cuda-dynamic`` for the dynamic
    memory that ComfyUI starts with on NVIDIA by default.
    """
    sys.path.insert(0, str(path))
    import comfy.options

    comfy.options.enable_args_parsing(True)
    device = os.environ.get("COMFYUI_DEVICE", "cpu")
    argv, sys.argv = sys.argv, [sys.argv[0], *(["--cpu"] if device == "cpu" else [])]
    try:
        import comfy.cli_args
    finally:
        sys.argv = argv
    if device == "cuda-dynamic":
        turn_dynamic_memory_on()
    logging.getLogger().setLevel(logging.WARNING)
    torch.set_num_threads(1)  # the models are too small for more
    # The pack's own code is deterministic; so the tests may ask for bit-identical samples.
    torch.use_deterministic_algorithms(True, warn_only=True)


def turn_dynamic_memory_on() -> None:
    """Do what ComfyUI's main.py does where it can."""
    import comfy_aimdo.control

    comfy_aimdo.control.init()
    import comfy.memory_management
    import comfy.model_management
    import comfy.model_patcher

    devices = [(d.index or 0, 0) for d in comfy.model_management.get_all_torch_devices()]
    assert comfy_aimdo.control.init_devices(devices), "no dynamic memory here"
    comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
    comfy.memory_management.aimdo_enabled = True


def load_bridge() -> None:
    """Make ``trustopt_pack.nodes.bridge`` importable without the nodes above it.

    The pack is loaded under another name than its folder's, as ComfyUI does.
    """
    for name, folder in ((PACK, ROOT), (f"{PACK}.nodes", ROOT / "nodes")):
        bare = types.ModuleType(name)
        bare.__path__ = [str(folder)]
        sys.modules[name] = bare


COMFYUI = find_comfyui()
if COMFYUI is None:
    collect_ignore_glob = ["test_*.py"]
else:
    boot_comfyui(COMFYUI)
    load_bridge()
    load_file("trustopt_test_models", Path(__file__).with_name("models.py"))
    load_file("trustopt_test_reference", Path(__file__).with_name("reference.py"))
    load_file("trustopt_test_prompts", Path(__file__).with_name("prompts.py"))
    load_file("trustopt_test_sampling", Path(__file__).with_name("sampling.py"))
    load_file("trustopt_test_simulator", Path(__file__).with_name("simulator.py"))
    load_file("trustopt_test_traffic", ROOT / "tests" / "device_traffic.py")


def pytest_report_header() -> str:
    if COMFYUI is None:
        return "NO COMFYUI FOUND: tests/comfy is not run. Set COMFYUI_PATH to a checkout."
    return f"ComfyUI: {COMFYUI}, python {os.path.basename(sys.executable)}"


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """Fail a test that leaves global switches changed or a model loaded under another one."""
    import comfy.model_management as management

    yield
    assert management.in_training is False
    assert not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()
    management.unload_all_models()


@pytest.fixture(scope="session")
def pack_nodes() -> set[str]:
    """Load the pack's nodes into ComfyUI; return their ids."""
    load_file("trustopt_test_graph", Path(__file__).with_name("graph.py"))
    import trustopt_test_graph

    return trustopt_test_graph.load_pack()


@pytest.fixture
def comfyui(pack_nodes, tmp_path):
    """Return a ComfyUI that runs graphs, its folders below ``tmp_path``."""
    import trustopt_test_graph

    with trustopt_test_graph.comfyui_in(tmp_path) as graphs:
        yield graphs


@pytest.fixture
def no_metadata(pack_nodes, monkeypatch) -> None:
    """Start ComfyUI with --disable-metadata: LoRAs of different graphs are then the same bytes."""
    from comfy.cli_args import args

    monkeypatch.setattr(args, "disable_metadata", True)


@pytest.fixture
def run_of(tmp_path):
    """Return a function from a run's name to the folder of its sample pictures."""
    return lambda name="tiny": tmp_path / "output" / "trustopt" / name / "samples"
