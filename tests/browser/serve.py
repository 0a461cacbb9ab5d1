"""Starts ComfyUI's server: ``serve.py COMFYUI_FOLDER [ComfyUI's arguments]``.

Declares what a CPU-only torch beside a CUDA torchvision lacks, as ``tests/conftest.py`` does for
the tests in this process.
"""

import importlib.util
import runpy
import sys
from pathlib import Path

folder = Path(sys.argv[1]).resolve()
shim = Path(__file__).resolve().parents[1] / "conftest.py"
spec = importlib.util.spec_from_file_location("trustopt_vision_shim", shim)
module = importlib.util.module_from_spec(spec)
sys.modules["trustopt_vision_shim"] = module
spec.loader.exec_module(module)

sys.argv = [str(folder / "main.py"), *sys.argv[2:]]
sys.path[0] = str(folder)
runpy.run_path(str(folder / "main.py"), run_name="__main__")
