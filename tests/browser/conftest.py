"""One real ComfyUI server for all tests here, one Chromium page for each that asks for it.

Without a ComfyUI checkout, playwright or a Chromium nothing here runs, and the report says so.
"""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MODEL_FILES = {
    "checkpoints": ["sd_xl_base_1.0.safetensors"],
    "diffusion_models": ["flux1-dev.safetensors"],
    "text_encoders": ["t5xxl_fp8_e4m3fn.safetensors", "clip_l.safetensors"],
    "vae": ["ae.safetensors"],
}
"""Files the workflows name, so that their lists hold them; nothing loads these."""


def load_file(name: str, path: Path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


COMFYUI = load_file("trustopt_all_tests_browser", ROOT / "tests" / "__main__.py").find_comfyui()
tools = load_file("trustopt_test_server", HERE / "comfy_server.py")
MISSING = [
    name
    for name, found in (
        ("a ComfyUI checkout (COMFYUI_PATH)", COMFYUI),
        ("playwright", importlib.util.find_spec("playwright")),
        ("a Chromium (CHROMIUM_PATH)", tools.find_chromium()),
    )
    if not found
]
if MISSING:
    collect_ignore_glob = ["test_*.py"]


def pytest_report_header() -> str:
    if MISSING:
        return f"tests/browser IS NOT RUN, missing: {', '.join(MISSING)}"
    return f"tests/browser: ComfyUI {COMFYUI}, {tools.find_chromium()}"


def pytest_collection_modifyitems(items) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.comfy)
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A running ComfyUI with the pack."""
    folder = tmp_path_factory.mktemp("comfyui") / "base"
    for kind, names in MODEL_FILES.items():
        (folder / "models" / kind).mkdir(parents=True)
        for name in names:
            (folder / "models" / kind / name).write_bytes(b"")
    frontend = os.environ.get("COMFYUI_FRONTEND")  # another than the one ComfyUI is installed with
    arguments = ["--front-end-root", frontend] if frontend else []
    with tools.comfy_server(COMFYUI, folder, *arguments) as running:
        yield running


@pytest.fixture
def page(server):
    """A page with ComfyUI's frontend open in the classic renderer."""
    with tools.browser_page(server) as opened:
        yield opened


@pytest.fixture(scope="module")
def one_page(server):
    """A page for all tests of a file that only open workflows in it, in the classic renderer."""
    with tools.browser_page(server) as opened:
        yield opened


@pytest.fixture
def vue_page(server):
    """A page with ComfyUI's frontend open in the Nodes 2.0 renderer."""
    with tools.browser_page(server, vue_nodes=True) as opened:
        yield opened


@pytest.fixture(params=["classic", "nodes2"])
def canvas(server, request):
    """A page in either renderer, to draw graphs in; no error of ours may be logged in it."""
    server.post("/settings", {"TrustOpt.ImageSets": {}, "TrustOpt.Chart": {}})
    with tools.browser_page(server, vue_nodes=request.param == "nodes2") as opened:
        drawing = graphs.Canvas(opened)
        yield drawing
        assert drawing.errors == []


@pytest.fixture
def live(canvas, server):
    """The live panels of the page; whatever still trains afterwards is stopped."""
    driven = panels.Live(canvas, server)
    yield driven
    driven.stop_all()


@pytest.fixture
def pictures(tmp_path_factory) -> Path:
    """Folder of the screenshots of all tests."""
    return tmp_path_factory.getbasetemp() / "screenshots"


load_file("trustopt_test_workflows", HERE / "workflow_files.py")
graphs = load_file("trustopt_test_graphs", HERE / "graphs.py")
panels = load_file("trustopt_test_panels", HERE / "panels.py")
