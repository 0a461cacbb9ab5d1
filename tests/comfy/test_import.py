"""What loading the pack costs everybody who has it installed."""

import subprocess
import sys
from pathlib import Path

import nodes

ROOT = Path(__file__).parents[2]
SCRIPT = """
import asyncio, importlib.util, sys
comfyui, pack, shim = sys.argv[1:]
spec = importlib.util.spec_from_file_location("shim", shim)
library = importlib.util.module_from_spec(spec)
spec.loader.exec_module(library)
sys.path.insert(0, comfyui)
import comfy.options
comfy.options.enable_args_parsing()
sys.argv = ["x", "--cpu"]
import nodes, server
before = set(sys.modules)
assert asyncio.run(nodes.load_custom_node(pack))
print("\\n".join(sorted(set(sys.modules) - before)))
"""


def test_loading_the_pack_imports_none_of_what_does_the_work() -> None:
    command = [
        sys.executable, "-c", SCRIPT, str(Path(nodes.__file__).parent), str(ROOT),
        str(ROOT / "tests" / "conftest.py"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    loaded = done.stdout.splitlines()
    own = [name for name in loaded if name.startswith(str(ROOT))]
    assert any(name.endswith(".nodes.train") for name in own)
    foreign = {name.partition(".")[0] for name in loaded if name not in own}
    assert not foreign & {"peft", "transformers", "diffusers", "accelerate", "matplotlib"}
    assert "torch._dynamo" not in loaded
    late = (".nodes.bridge", ".nodes.training", ".trustopt.adapters", ".trustopt.train.run")
    assert not [name for name in own if name.endswith(late)]
