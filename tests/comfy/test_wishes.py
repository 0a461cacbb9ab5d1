"""What a browser may ask of a training under way, and what it is told."""

import importlib
from typing import ClassVar

from safetensors import safe_open
from trustopt_test_prompts import training

import nodes


def own_module(name: str):
    """Return a module of the pack's nodes, of the copy that ComfyUI loaded."""
    package = nodes.NODE_CLASS_MAPPINGS["TrustOpt_TrainLora"].__module__.rpartition(".")[0]
    return importlib.import_module(f"{package}.{name}")


def at_step(comfyui, step: int, action) -> None:
    """Do something when the browser hears of a step."""

    def on_send(event, data) -> None:
        if event == "trustopt.progress" and data["status"] == "training" and data["step"] >= step:
            comfyui.server.on_send = None
            action(data["run_id"])

    comfyui.server.on_send = on_send


def test_save_now_writes_a_lora_and_goes_on(comfyui, tmp_path) -> None:
    at_step(comfyui, 1, lambda run_id: own_module("runs").request_wish(run_id, "save"))
    assert comfyui.run(training(steps=8)) == "success"
    copies = list((tmp_path / "output" / "loras").glob("tiny_step*.safetensors"))
    assert len(copies) == 1
    step = int(copies[0].stem.removeprefix("tiny_step"))
    assert 1 <= step < 8
    with safe_open(copies[0], "pt") as file:
        assert file.metadata()["ss_steps"] == str(step)
    assert (tmp_path / "output" / "loras" / "tiny.safetensors").is_file()
    told = [e for e in comfyui.server.events("trustopt.progress") if e.get("lora")]
    assert [event["lora"] for event in told] == [copies[0].name, "tiny.safetensors"]
    assert [event["status"] for event in told] == ["training", "finished"]


def test_saving_on_wish_does_not_change_the_training(comfyui, tmp_path) -> None:
    comfyui.run(training(steps=6, name="plain"))
    at_step(comfyui, 2, lambda run_id: own_module("runs").request_wish(run_id, "save"))
    comfyui.run(training(steps=6, name="asked"))
    loras = tmp_path / "output" / "loras"
    hashes = []
    for name in ("plain", "asked"):
        with safe_open(loras / f"{name}.safetensors", "pt") as file:
            hashes.append(file.metadata()["sshs_model_hash"])
    assert hashes[0] == hashes[1]


def test_samples_are_asked_for_only_where_they_are_made(comfyui) -> None:
    refused = []
    at_step(comfyui, 1, lambda run: refused.append(own_module("runs").request_wish(run, "sample")))
    comfyui.run(training(steps=3))
    assert refused == [False]
    assert not comfyui.server.events("trustopt.progress")[-1]["can_sample"]


def test_a_run_on_disk_says_which_node_of_which_workflow(comfyui) -> None:
    comfyui.run(training(steps=2), workflow={"id": "one-of-mine", "nodes": []})
    (run,) = own_module("routes").list_runs()
    assert (run["node"], run["workflow"], run["status"]) == ("5", "one-of-mine", "finished")
    event = comfyui.server.events("trustopt.progress")[-1]
    assert (event["node"], event["workflow"]) == ("5", "one-of-mine")


def test_a_page_that_draws_the_panel_gets_numbers_alone(comfyui) -> None:
    own_module("watchers").note_panel(comfyui.server.client_id)
    try:
        comfyui.run(training(steps=3))
    finally:
        own_module("watchers")._pages.clear()
    texts = [text for node_id, text in comfyui.server.texts if node_id == "5"]
    assert len(texts) == 1  # how it ended
    assert texts[0].startswith("finished at step 3")
    stages = [e for e in comfyui.server.events("trustopt.progress") if e["status"] == "preparing"]
    assert stages[0]["stage"] == "encoding images"
    assert 0 < stages[0]["done"] <= stages[0]["total"]


def test_only_the_newest_pages_are_remembered(comfyui) -> None:
    watchers = own_module("watchers")
    for number in range(watchers.MOST + 10):
        watchers.note_panel(f"page {number}")
    try:
        assert len(watchers._pages) == watchers.MOST
        assert f"page {watchers.MOST + 9}" in watchers._pages
        assert "page 0" not in watchers._pages
    finally:
        watchers._pages.clear()


def test_a_page_that_is_being_reloaded_is_told_nothing_until_it_listens(monkeypatch) -> None:
    watchers = own_module("watchers")
    sent = []

    class Server:
        sockets: ClassVar[dict] = {"left": None, "other": None}

        def send_sync(self, name, data, sid=None) -> None:
            sent.append((name, data, sid))

    monkeypatch.setattr(watchers, "prompt_server", Server)
    watchers.send_event("event", {"step": 1})
    watchers.note_away("left")
    watchers.send_event("event", {"step": 2})
    watchers.note_panel("left")
    watchers.send_event("event", {"step": 3})
    watchers._pages.clear()
    assert sent == [
        ("event", {"step": 1}, None),
        ("event", {"step": 2}, "other"),
        ("event", {"step": 3}, None),
    ]
