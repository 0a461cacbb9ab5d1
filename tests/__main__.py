"""Run every test this machine can: ``python -m tests``.

The core's tests and the linters run in this interpreter. The tests against a real ComfyUI run in
ComfyUI's own interpreter, if a checkout is found (``COMFYUI_PATH``, or comfy-cli's workspace), and
those in the browser beside the others: a page and its server wait for each other most of the time.
"""

import configparser
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Part:
    """One command to run, and what its environment holds besides this one's."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)


def main() -> int:
    """Run all, report all; non-zero if any part failed."""
    comfy, browser = comfy_checks()
    lanes = [own_checks() + comfy, browser]
    with ThreadPoolExecutor(len(lanes)) as pool:
        failed = [name for names in pool.map(run_lane, lanes) for name in names]
    say("FAILED: " + ", ".join(failed) if failed else "all parts passed")
    return len(failed)


def own_checks() -> list[Part]:
    """Return the parts that need nothing but this interpreter."""
    python = sys.executable
    return [
        Part("lint", [python, "-m", "ruff", "check", "."]),
        Part("format", [python, "-m", "ruff", "format", "--check", "."]),
        Part("unit tests", [python, "-m", "pytest", "-q"]),
    ]


def comfy_checks() -> tuple[list[Part], list[Part]]:
    """Return the tests in a real ComfyUI and in the browser; none, and say so, without one."""
    comfy = find_comfyui()
    if comfy is None:
        say("SKIPPED: tests/comfy and tests/browser, no ComfyUI found: set COMFYUI_PATH")
        return [], []
    if not comfy_python_ready(comfy):
        say(
            f"SKIPPED: tests/comfy and tests/browser, {comfy_python(comfy)} cannot import torch, "
            "peft, pytest and playwright: install them into ComfyUI's environment"
        )
        return [], []
    pytest = [comfy_python(comfy), "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    there = {"COMFYUI_PATH": str(comfy)}
    return (
        [Part("tests in ComfyUI", [*pytest, "tests/comfy"], there)],
        [Part("tests in the browser", [*pytest, "tests/browser"], there)],
    )


def run_lane(parts: list[Part]) -> list[str]:
    """Run parts one after the other, beside the other lanes; return the names of those failed."""
    return [part.name for part in parts if not run(part)]


def run(part: Part) -> bool:
    """Run one part in the repository's root; print what it said in one piece, once it ended."""
    say(f"== {part.name} begins")
    # The tests' tensors are small: more than one thread only waits for the others.
    surroundings = {"OMP_NUM_THREADS": "1", **os.environ, **part.environment}
    ended = subprocess.run(
        part.command, cwd=ROOT, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    say(f"== {part.name}\n{ended.stdout.decode(errors='replace')}")
    return ended.returncode == 0


def say(line: str) -> None:
    """Print at once, in order with what the parts print."""
    print(line, flush=True)


def find_comfyui() -> Path | None:
    """Return the ComfyUI checkout named by COMFYUI_PATH or by comfy-cli's settings, if any."""
    places = [os.environ.get("COMFYUI_PATH", "")]
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(comfy_cli_settings())
    places.append(settings.get("DEFAULT", "default_workspace", fallback=""))
    for place in places:
        if place and (Path(place) / "comfy_execution").is_dir():
            return Path(place)
    return None


def comfy_cli_settings() -> Path:
    """Return where comfy-cli keeps its settings on this system."""
    home = Path.home()
    if sys.platform == "win32":
        return home / "AppData" / "Local" / "comfy-cli" / "config.ini"
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "comfy-cli" / "config.ini"
    return home / ".config" / "comfy-cli" / "config.ini"


def comfy_python(comfy: Path) -> str:
    """Return the interpreter ComfyUI runs in: its own environment, else this one."""
    for place in (".venv/bin/python", "venv/bin/python", ".venv/Scripts/python.exe"):
        if (comfy / place).exists():
            return str(comfy / place)
    return sys.executable


def comfy_python_ready(comfy: Path) -> bool:
    """Return whether that interpreter has what the tests need."""
    # Found, not imported: some of them need tests/conftest.py's help to import.
    check = "from importlib.util import find_spec as f; exit(not all(map(f, {!r}.split())))"
    needed = "torch torchsde peft pytest playwright"
    return subprocess.run([comfy_python(comfy), "-c", check.format(needed)]).returncode == 0


if __name__ == "__main__":
    raise SystemExit(main())
