"""Runs graphs in this process by ComfyUI's own validation, executor and cache; no server."""

import asyncio
import copy
import itertools
import logging
from contextlib import contextmanager
from pathlib import Path

import comfy.utils
import comfy_execution.progress
import execution
import folder_paths
import server

import nodes

ROOT = Path(__file__).parents[2]
NO_LIMITS = {"lru": 0, "ram": 0, "ram_inactive": 0}


def load_pack() -> set[str]:
    """Load this pack as ComfyUI does; return the ids of its nodes."""
    before = set(nodes.NODE_CLASS_MAPPINGS)
    assert asyncio.run(nodes.load_custom_node(str(ROOT)))
    return set(nodes.NODE_CLASS_MAPPINGS) - before


def load_builtin(name: str) -> None:
    """Load one of ComfyUI's own extra node files."""
    path = Path(nodes.__file__).parent / "comfy_extras" / name
    assert asyncio.run(nodes.load_custom_node(str(path), module_parent="comfy_extras"))


class Recorder:
    """Stands where ComfyUI's server is and keeps what is sent to the browser."""

    def __init__(self) -> None:
        self.client_id = "test"
        self.last_node_id = None
        self.sent: list[tuple[str, object]] = []
        self.texts: list[tuple[str, str]] = []
        self.progress: list[tuple] = []
        self.on_send = None

    def send_sync(self, event, data, sid=None) -> None:
        self.sent.append((event, data))
        if self.on_send is not None:
            self.on_send(event, data)

    def send_progress_text(self, text, node_id, sid=None) -> None:
        self.texts.append((node_id, text))

    def on_progress(self, value, total, preview, node_id=None) -> None:
        """Stand where ComfyUI's progress bars report to."""
        self.progress.append((node_id, value, total, preview))

    def events(self, name: str) -> list:
        return [data for event, data in self.sent if event == name]


class Graphs:
    """A running ComfyUI: prompts in, outputs out, one cache for all."""

    def __init__(self) -> None:
        self.server = Recorder()
        self.executor = execution.PromptExecutor(
            self.server, cache_type=execution.CacheType.CLASSIC, cache_args=NO_LIMITS
        )
        self._ids = itertools.count()

    def check(self, prompt: dict) -> str:
        """Return what validation says, "" if all is well."""
        checked = execution.validate_prompt("check", copy.deepcopy(prompt), None)
        good, error, _, node_errors = asyncio.run(checked)
        if good and not node_errors:
            return ""
        found = [e for node in node_errors.values() for e in node["errors"]]
        details = [f"{e['message']}: {e['details']}" for e in found]
        return "\n".join([error["message"] if error else "", *details])

    def run(self, prompt: dict, *, workflow: dict | None = None) -> str:
        """Validate and run a prompt; return how it ended: success, error or interrupted."""
        prompt = copy.deepcopy(prompt)  # a run writes its fingerprints into it
        assert self.check(prompt) == ""
        outputs = asyncio.run(execution.validate_prompt("run", prompt, None))[2]
        extra = {"client_id": "test"}
        if workflow is not None:
            extra["extra_pnginfo"] = {"workflow": workflow}
        self.executor.execute(prompt, f"prompt-{next(self._ids)}", extra, outputs)
        return self.executor.status_messages[-1][0].removeprefix("execution_")

    def error(self) -> str:
        """Return the message of the last run's error."""
        return self.executor.status_messages[-1][1]["exception_message"]

    def executed(self) -> set[str]:
        """Return the nodes that ran (were not served from the cache) in the last run."""
        cached = next(d for e, d in self.executor.status_messages if e == "execution_cached")
        last = self.server.sent
        start = max(i for i, (event, _) in enumerate(last) if event == "execution_start")
        return {d["node"] for e, d in last[start:] if e == "executing"} - set(cached["nodes"])

    def outputs(self, node_id: str) -> list:
        """Return a node's outputs as its cache holds them."""
        entry = asyncio.run(self.executor.caches.outputs.get(node_id))
        return [values[0] for values in entry.outputs]


@contextmanager
def comfyui_in(folder: Path):
    """Run a ComfyUI whose input, output, temp and user folders are below ``folder``."""
    kinds = ("input", "output", "temp", "user")
    before = {kind: getattr(folder_paths, f"get_{kind}_directory")() for kind in kinds}
    graphs = Graphs()
    instance = getattr(server.PromptServer, "instance", None)
    server.PromptServer.instance = graphs.server
    comfy.utils.set_progress_bar_global_hook(graphs.server.on_progress)
    loras = folder_paths.folder_names_and_paths["loras"]
    try:
        for kind in kinds:
            (folder / kind).mkdir(parents=True, exist_ok=True)
            getattr(folder_paths, f"set_{kind}_directory")(str(folder / kind))
        folder_paths.folder_names_and_paths["loras"] = (
            [str(folder / "output" / "loras")],
            loras[1],
        )
        folder_paths.filename_list_cache.pop("loras", None)
        yield graphs
    finally:
        comfy.utils.set_progress_bar_global_hook(None)
        for kind, path in before.items():
            getattr(folder_paths, f"set_{kind}_directory")(path)
        folder_paths.folder_names_and_paths["loras"] = loras
        folder_paths.filename_list_cache.pop("loras", None)
        if instance is None:
            del server.PromptServer.instance
        else:
            server.PromptServer.instance = instance
        comfy_execution.progress.reset_progress_state("none", None)
        logging.getLogger().setLevel(logging.WARNING)
