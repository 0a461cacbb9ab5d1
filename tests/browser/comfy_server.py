"""A real ComfyUI server with this pack, in folders of its own, and a Chromium that opens it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 300
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.InstalledVersion": "1.49.6",
    "Comfy.Workflow.Persist": False,
    "Comfy.Notification.ShowVersionUpdates": False,
    "Comfy.Minimap.Visible": False,
    "Comfy.Window.UnloadConfirmation": False,
    "Comfy.Graph.CanvasInfo": False,
    "Comfy.Locale": "en",
    "Comfy.VersionCompatibility.DisableWarnings": True,
    "LiteGraph.Canvas.MinFontSizeForLOD": 0,
}
"""A frontend past its first-run dialogs, which writes every text however small."""

OFFLINE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
"""Only the server is found. (Routing each request by playwright would switch caches off.)"""

IS_READY = (
    "window.app?.vueAppReady && window.app.graph && window.app.extensionManager?.spinner === false"
)
"""The frontend has set up its extensions and drawn its first workflow."""


def find_chromium() -> str | None:
    """Return a Chromium of this machine: ``CHROMIUM_PATH``, or one on the path."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("CHROMIUM_PATH") or next(filter(None, map(shutil.which, names)), None)


class ComfyServer:
    """A running server.

    Attributes:
        url: Where it answers.
        folder: Its base folder: input, output, temp, user, custom_nodes.
        browser: One Chromium for all its pages, started when it is first asked for.
    """

    def __init__(self, process: subprocess.Popen, url: str, folder: Path, log: Path) -> None:
        self.process, self.url, self.folder, self._log = process, url, folder, log
        self._closing = ExitStack()

    @cached_property
    def browser(self):
        from playwright.sync_api import sync_playwright

        playwright = self._closing.enter_context(sync_playwright())
        browser = playwright.chromium.launch(
            executable_path=find_chromium(),
            args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", OFFLINE],
        )
        self._closing.callback(browser.close)
        return browser

    def close_browser(self) -> None:
        """Close Chromium, if it was started."""
        self._closing.close()

    @property
    def log(self) -> str:
        """What it has printed."""
        return self._log.read_text(errors="replace")

    def get(self, path: str) -> object:
        """Return a route's JSON."""
        with urllib.request.urlopen(self.url + path, timeout=120) as answer:
            return json.load(answer)

    def post(self, path: str, data: object) -> tuple[int, object]:
        """Post JSON; return status and JSON of the answer, errors included."""
        request = urllib.request.Request(
            self.url + path, json.dumps(data).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")

    def status_of(self, path: str) -> int:
        """Return the HTTP status of a route."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=120) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    def queue(self, prompt: dict, extra: dict | None = None) -> str:
        """Queue a prompt and return its id."""
        body = {"prompt": prompt, "client_id": uuid.uuid4().hex, "extra_data": extra or {}}
        status, answer = self.post("/prompt", body)
        assert status == 200, answer
        return answer["prompt_id"]

    def step_of(self, prompt_id: str, run_id: str, at_least: int, seconds: float = 600) -> dict:
        """Wait until a run has taken some steps; return its entry in the list of runs.

        Raises:
            RuntimeError: If its prompt ended before.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            runs = {run["run_id"]: run for run in self.get("/trustopt/runs")["runs"]}
            if (runs.get(run_id, {}).get("step") or 0) >= at_least:
                return runs[run_id]
            if self.get(f"/history/{prompt_id}"):
                raise RuntimeError(f"the prompt ended early\n{self.log[-3000:]}")
            time.sleep(0.2)
        raise TimeoutError(f"{run_id} did not reach step {at_least}\n{self.log[-3000:]}")

    def finished(self, prompt_id: str, seconds: float = 1800) -> dict:
        """Wait for a prompt's end and return its history."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            history = self.get(f"/history/{prompt_id}")
            if prompt_id in history and history[prompt_id]["status"]["messages"]:
                return history[prompt_id]
            time.sleep(0.5)
        raise TimeoutError(f"prompt {prompt_id} did not end\n{self.log[-3000:]}")


@contextmanager
def comfy_server(comfyui: Path, folder: Path, *arguments: str) -> Iterator[ComfyServer]:
    """Start ComfyUI with the pack linked in, wait until it answers, stop it afterwards."""
    (folder / "custom_nodes").mkdir(parents=True)
    (folder / "custom_nodes" / "trustopt").symlink_to(ROOT, target_is_directory=True)
    port = free_port()
    command = [
        sys.executable, str(Path(__file__).with_name("serve.py")), str(comfyui), "--cpu",
        "--port", str(port), "--base-directory", str(folder), "--disable-api-nodes",
        "--database-url", "sqlite:///:memory:", *arguments,
    ]  # fmt: skip
    log = folder / "server.log"
    # On a machine busy with other work two threads wait for each other at every tiny operation.
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, cwd=folder, env=environment
        )
    server = ComfyServer(process, f"http://127.0.0.1:{port}", folder, log)
    try:
        wait_until_up(server)
        server.post("/settings", SETTINGS)
        yield server
    finally:
        server.close_browser()
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_up(server: ComfyServer) -> None:
    """Wait for the server's first answer."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if server.process.poll() is not None:
            raise RuntimeError(f"ComfyUI ended while starting\n{server.log[-5000:]}")
        try:
            server.get("/system_stats")
        except OSError:
            time.sleep(0.5)
        else:
            return
    raise TimeoutError(f"ComfyUI did not start in {START_SECONDS} s\n{server.log[-5000:]}")


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def browser_page(server: ComfyServer, *, vue_nodes: bool = False) -> Iterator[object]:
    """Open ComfyUI in a page with cookies and storage of its own, and wait for its graph.

    The page is offline but for the server.
    """
    server.post("/settings", {"Comfy.VueNodes.Enabled": vue_nodes})
    context = server.browser.new_context(viewport={"width": 1600, "height": 1000})
    try:
        page = context.new_page()
        page.set_default_timeout(180_000)
        page.goto(server.url)
        page.wait_for_function(IS_READY)
        yield page
    finally:
        context.close()
