"""What the run browser lists and asks: from a training's own files, and from broken ones."""

import asyncio
import importlib
import json
import os
from pathlib import Path

import folder_paths
import numpy as np
import pytest
import torch
from aiohttp.test_utils import make_mocked_request
from safetensors.torch import save_file
from trustopt_test_prompts import training

import nodes

WORKFLOW = {"id": "the-workflow", "nodes": [{"id": 5, "type": "TrustOpt_TrainLora"}], "links": []}


def own_module(name: str):
    """Return a module of the pack's nodes, of the copy that ComfyUI loaded."""
    package = nodes.NODE_CLASS_MAPPINGS["TrustOpt_TrainLora"].__module__.rpartition(".")[0]
    return importlib.import_module(f"{package}.{name}")


def runs_of(tmp_path: Path) -> Path:
    return tmp_path / "output" / "trustopt"


def listed() -> dict[str, dict]:
    return {run["run_id"]: run for run in own_module("run_list").list_runs()}


def ask(what: str, run_id: str) -> tuple[int, dict]:
    """Return status and answer of ``GET /trustopt/runs/{run_id}/{what}``."""
    request = make_mocked_request("GET", "/", match_info={"run_id": run_id})
    response = asyncio.run(getattr(own_module("run_routes"), f"get_{what}")(request))
    return response.status, json.loads(response.body)


def write_run(
    tmp_path: Path, name: str, *, rows: list[dict] | None = None, lora: bool = False, **files
) -> Path:
    """Write a run as far as it is listed; ``files`` are JSON files by name."""
    folder = runs_of(tmp_path) / name
    folder.mkdir(parents=True)
    for file, value in {"job": {"steps": 10}, **files}.items():
        (folder / f"{file}.json").write_text(json.dumps(value), encoding="utf-8")
    lines = [json.dumps(row) + "\n" for row in rows or []]
    if lines:
        (folder / "signals.jsonl").write_text("".join(lines), encoding="utf-8")
    if lora:
        path = tmp_path / "output" / "loras" / f"{name}.safetensors"
        path.parent.mkdir(exist_ok=True)
        save_file({"x": torch.ones(1)}, path)
    return folder


def test_a_training_is_listed_with_all_a_browser_shows(comfyui, tmp_path) -> None:
    assert comfyui.run(training(steps=3), workflow=WORKFLOW) == "success"
    (run,) = own_module("run_list").list_runs()
    expected = {
        "run_id": "tiny", "status": "finished", "step": 3, "steps": 3, "family": "sdxl",
        "model": "tiny-sdxl", "purpose": "character", "preset": "B", "optimizer": "adamw",
        "algorithm": "lora", "rank": 4, "samples": [], "lora": "tiny.safetensors", "node": "5",
        "workflow": "the-workflow",
    }  # fmt: skip
    assert expected.items() <= run.items()
    assert run["images"] >= 8
    signals = runs_of(tmp_path) / "tiny" / "signals.jsonl"
    losses = [json.loads(line).get("loss") for line in signals.read_text().splitlines()]
    losses = [loss for loss in losses if loss is not None]
    assert run["loss"] == pytest.approx(sum(losses) / len(losses))
    assert run["time"] == pytest.approx(signals.stat().st_mtime)
    assert ask("files", "tiny") == (200, {
        "run_id": "tiny", "lora": "tiny.safetensors", "is_hidden": False, "has_workflow": True,
        "resumes": "tiny",
    })  # fmt: skip
    assert ask("workflow", "tiny") == (200, {"run_id": "tiny", "workflow": WORKFLOW})


def test_the_workflow_of_a_lora_serves_where_the_folder_has_none(comfyui, tmp_path) -> None:
    assert comfyui.run(training(steps=2), workflow=WORKFLOW) == "success"
    (runs_of(tmp_path) / "tiny" / "workflow.json").unlink()
    assert ask("workflow", "tiny")[1]["workflow"] == WORKFLOW
    (tmp_path / "output" / "loras" / "tiny.safetensors").unlink()
    status, answer = ask("workflow", "tiny")
    assert (status, "holds a workflow" in answer["error"]) == (404, True)
    found = ask("files", "tiny")[1]
    assert (found["has_workflow"], found["lora"]) == (False, None)
    assert listed()["tiny"]["lora"] is None


def test_no_workflow_is_kept_where_the_user_wants_no_metadata(
    comfyui, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(own_module("training").args, "disable_metadata", True)
    assert comfyui.run(training(steps=2), workflow=WORKFLOW) == "success"
    assert not (runs_of(tmp_path) / "tiny" / "workflow.json").exists()
    assert ask("files", "tiny")[1]["has_workflow"] is False
    assert listed()["tiny"]["purpose"] == "character"


def test_a_lora_that_loaders_would_not_find_is_told(comfyui, tmp_path, monkeypatch) -> None:
    write_run(tmp_path, "cat", lora=True)
    assert ask("files", "cat")[1]["is_hidden"] is False
    first = tmp_path / "models" / "loras"
    first.mkdir(parents=True)
    save_file({"x": torch.ones(2)}, first / "cat.safetensors")
    folders, extensions = folder_paths.folder_names_and_paths["loras"]
    both = ([str(first), *folders], extensions)
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "loras", both)
    assert ask("files", "cat")[1] | {"run_id": ""} == {
        "run_id": "", "lora": "cat.safetensors", "is_hidden": True, "has_workflow": False,
        "resumes": None,
    }  # fmt: skip


def test_resuming_by_name_may_mean_a_newer_run(comfyui, tmp_path) -> None:
    for index, name in enumerate(("cat", "cat_2", "cat_2b")):
        state = write_run(tmp_path, name) / "state" / "00000010"
        assert ask("files", name)[1]["resumes"] is None
        state.mkdir(parents=True)
        os.utime(state, (1000.0 + index, 1000.0 + index))
    resumed = {name: ask("files", name)[1]["resumes"] for name in ("cat", "cat_2", "cat_2b")}
    assert resumed == {"cat": "cat_2", "cat_2": "cat_2", "cat_2b": "cat_2b"}


def test_a_run_is_read_again_when_it_has_changed(comfyui, tmp_path, monkeypatch) -> None:
    folder = write_run(tmp_path, "cat", rows=[{"step": 1, "loss": 2.0}])
    module = own_module("run_list")
    read = []
    original = module.read_entry
    monkeypatch.setattr(module, "read_entry", lambda f: read.append(f.name) or original(f))
    assert (listed()["cat"]["step"], listed()["cat"]["loss"]) == (1, 2.0)
    assert read == ["cat"]
    with (folder / "signals.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 2, "loss": 1.0}\n{"step": 2, "event": "save"}\n{"step": 3, "lo')
    assert (listed()["cat"]["step"], listed()["cat"]["loss"]) == (2, 1.5)
    assert read == ["cat", "cat"]
    write_run(tmp_path, "dog")
    assert listed().keys() == {"cat", "dog"}
    assert read == ["cat", "cat", "dog"]


def test_only_the_end_of_a_long_run_is_read(comfyui, tmp_path) -> None:
    rows = [{"step": step, "loss": 5.0 if step < 9000 else 1.0} for step in range(1, 20_001)]
    rows[-1]["loss"] = "NaN"
    write_run(tmp_path, "long", rows=rows)
    run = listed()["long"]
    assert (run["step"], run["loss"]) == (20_000, 1.0)
    assert len(own_module("run_list").tail(runs_of(tmp_path) / "long" / "signals.jsonl")) < 3000


def test_the_newest_run_comes_first_and_hundreds_are_listed(comfyui, tmp_path) -> None:
    for index in range(300):
        folder = write_run(tmp_path, f"run {index}", rows=[{"step": index + 1, "loss": 1.0}])
        os.utime(folder / "job.json", (1000.0 + index, 1000.0 + index))
    found = own_module("run_list").list_runs()
    assert [run["run_id"] for run in found] == [f"run {index}" for index in reversed(range(300))]
    assert found[0]["step"] == 300


def test_the_newest_samples_are_listed(comfyui, tmp_path) -> None:
    from trustopt_pack.trustopt.train.sample_folder import SampleFolder

    samples = write_run(tmp_path, "cat") / "samples"
    assert (listed()["cat"]["samples"], listed()["cat"]["samples_time"]) == ([], 0.0)
    prompts = [f"prompt {number}" for number in range(6)]
    pictures = [np.zeros((8, 8, 3), np.uint8)] * 6
    for step in (100, 200):
        SampleFolder(samples, step).add(step, prompts, pictures)
    # Resumed from step 100: what it makes next is newer than the pictures of step 200.
    SampleFolder(samples, 100).add(150, prompts, pictures)
    run = listed()["cat"]
    assert run["samples"] == [f"step_000150_{n:02d}.png" for n in (1, 2, 3, 4)]
    assert run["samples_time"] == pytest.approx((samples / "index.json").stat().st_mtime)
    (samples / "index.json").write_text("{", encoding="utf-8")
    assert listed()["cat"]["samples"] == []


@pytest.mark.parametrize("content", ["", "{", "[1]", "null", '{"fingerprint": 3, "optimizer": []}'])
@pytest.mark.parametrize("file", ["job", "graph", "plan", "result", "workflow"])
def test_one_broken_run_hides_no_other(comfyui, tmp_path, file, content) -> None:
    write_run(tmp_path, "good", rows=[{"step": 4, "loss": 0.5}])
    folder = write_run(tmp_path, "bad")
    (folder / f"{file}.json").write_text(content, encoding="utf-8")
    (folder / "signals.jsonl").write_bytes(b'\xff\xfe\n{"step": "x"}\n[]\n{}\n')
    found = listed()
    assert found.keys() == {"good", "bad"}
    assert (found["good"]["step"], found["bad"]["step"], found["bad"]["loss"]) == (4, None, None)
    assert ask("files", "bad")[1]["has_workflow"] is False


@pytest.mark.parametrize("what", ["files", "workflow"])
@pytest.mark.parametrize("run_id", ["nothing", "..", ".cache", "../loras", "a/b", "", "\0"])
def test_what_is_no_run_is_not_found(comfyui, tmp_path, what, run_id) -> None:
    write_run(tmp_path, "cat")
    status, answer = ask(what, run_id)
    assert status == 404
    assert "there is no run" in answer["error"]
