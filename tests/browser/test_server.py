"""The pack in a running server: how it loads, and what its routes answer."""

import re

import pytest
from trustopt_test_workflows import NAMES

ROUTES = "/trustopt/runs"


def training(steps: int, seed: int, name: str) -> dict:
    """Return a graph that trains the tiny model on the example set."""

    def node(kind: str, **inputs) -> dict:
        return {"class_type": f"TrustOpt_{kind}", "inputs": inputs}

    return {
        "1": node("TinyModel", family="sdxl"),
        "2": node("LoadImageSet", folder="(example) emoji animals"),
        "3": node(
            "Preset",
            image_set=["2", 0],
            model=["1", 0],
            steps=steps,
            resolution=64,
            batch_size=2,
        ),
        "4": node("Optimizer", optimizer="emonavi"),
        "5": node(
            "TrainLora",
            model=["1", 0],
            clip=["1", 1],
            vae=["1", 2],
            image_set=["2", 0],
            plan=["3", 0],
            optimizer=["4", 0],
            name=name,
            seed=seed,
        ),
    }


def test_the_pack_loads_without_a_warning(server) -> None:
    lines = [re.sub(r"\x1b\[\d+m", "", line) for line in server.log.splitlines()]
    assert not [line for line in lines if "IMPORT FAILED" in line]
    own = [line for line in lines if "trustopt" in line.lower()]
    assert own  # its import time, at least
    assert not [line for line in own if "WARNING" in line or "ERROR" in line]
    assert "TrustOpt_TrainLora" in server.get("/object_info")


def test_workflows_are_listed_as_templates(server) -> None:
    assert sorted(server.get("/workflow_templates")["trustopt"]) == NAMES


def test_a_run_is_listed_while_it_trains_and_can_be_stopped_and_kept(server) -> None:
    prompt_id = server.queue(training(100_000, 1, "routed"))
    run = server.step_of(prompt_id, "routed", 3)
    assert run["status"] == "training"
    assert run["node"] == "5"
    assert run["steps"] == 100_000

    so_far = server.get(f"{ROUTES}/routed")
    assert so_far["columns"]["step"][:3] == [1, 2, 3]
    assert all(loss > 0 for loss in so_far["columns"]["loss"])
    later = server.get(f"{ROUTES}/routed?after=2")
    assert later["columns"]["step"][0] == 3

    assert server.post(f"{ROUTES}/routed/stop", {})[0] == 202
    history = server.finished(prompt_id)
    assert history["status"]["status_str"] == "success"
    ended = server.get(f"{ROUTES}/routed")
    assert ended["status"] == "stopped"
    assert {"step", "loss", "lr"} <= ended["columns"].keys()
    assert (server.folder / "output" / "loras" / "routed.safetensors").exists()
    assert server.post(f"{ROUTES}/routed/stop", {})[0] == 404


@pytest.mark.parametrize("run_id", ["nothing", "..", ".cache", "%2e%2e%2floras", "a%2Fb"])
def test_what_is_no_run_is_not_found(server, run_id) -> None:
    status, answer = server.post(f"{ROUTES}/{run_id}/stop", {})
    assert status in (404, 405)
    assert status == 405 or "error" in (answer or {"error": ""})
    assert server.status_of(f"{ROUTES}/{run_id}") == 404


def test_a_step_that_is_no_number_is_refused(server) -> None:
    assert server.status_of(f"{ROUTES}/routed?after=x") == 400


def test_bad_values_are_refused_before_the_queue(server) -> None:
    prompt = training(5, 1, "a/b")
    status, answer = server.post("/prompt", {"prompt": prompt})
    assert status == 400
    details = answer["node_errors"]["5"]["errors"][0]["details"]
    assert "cannot name a file" in details


def test_stop_in_the_server_keeps_what_was_trained(server) -> None:
    prompt_id = server.queue(training(100_000, 2, "cancelled"))
    server.step_of(prompt_id, "cancelled", 2)
    server.post("/interrupt", {})
    history = server.finished(prompt_id)
    assert history["status"]["messages"][-1][0] == "execution_interrupted"
    assert (server.folder / "output" / "loras" / "cancelled.safetensors").exists()
    assert server.get(f"{ROUTES}/cancelled")["status"] == "interrupted"
