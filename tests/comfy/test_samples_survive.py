"""Stop, failure and resume of trainings that make sample pictures."""

import pytest
import torch
from trustopt_test_prompts import training
from trustopt_test_sampling import at_event, own_module, pixels, sampling, steps_in, weights


def interrupt(_run_id: str) -> None:
    import comfy.model_management

    comfy.model_management.interrupt_current_processing()


@pytest.mark.parametrize("step", [0, 2, 4])
def test_stop_while_sampling_is_a_stop_like_any_other(
    comfyui, tmp_path, run_of, no_metadata, step
) -> None:
    lora = tmp_path / "output" / "loras" / "tiny.safetensors"
    assert comfyui.run(training(steps=4)) == "success"
    whole = weights(lora)
    lora.unlink()
    run_of().parent.rename(tmp_path / "whole")

    at_event(
        comfyui,
        lambda event: event["status"] == "training" and event["step"] == step and event["sampling"],
        interrupt,
    )
    assert comfyui.run(sampling(steps=4, samples={"every": 2})) == "interrupted"
    assert comfyui.server.events("trustopt.progress")[-1]["status"] == "interrupted"
    assert step not in steps_in(run_of())
    assert lora.is_file() == (step > 0)
    assert not own_module("runs").active_runs()
    states = run_of().parent / "state"
    assert [int(p.name) for p in states.glob("0*")] == ([step] if step else [])

    assert comfyui.run(sampling(steps=4, samples={"every": 2}, resume=True)) == "success"
    name = "tiny.safetensors" if step else "tiny_2.safetensors"
    assert weights(tmp_path / "output" / "loras" / name) == whole


@pytest.mark.parametrize("where", ["sample", "decode"])
def test_a_failing_sample_costs_its_pictures_alone(
    comfyui, tmp_path, run_of, no_metadata, monkeypatch, where
) -> None:
    import comfy.sample
    import comfy.sd

    lora = tmp_path / "output" / "loras" / "tiny.safetensors"
    assert comfyui.run(training(steps=4)) == "success"
    whole = weights(lora)
    lora.unlink()
    run_of().parent.rename(tmp_path / "whole")

    owner = comfy.sample if where == "sample" else comfy.sd.VAE
    real, calls = getattr(owner, where), []

    def fails_at_step_2(*args, **kwargs):
        calls.append(args)
        if len(calls) == 4:  # its second picture
            raise torch.OutOfMemoryError("Allocation on device 0 would exceed allowed memory")
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, where, fails_at_step_2)
    assert comfyui.run(sampling(steps=4, samples={"every": 2})) == "success", comfyui.error()
    assert weights(lora) == whole
    assert steps_in(run_of()) == [0, 4]
    events = comfyui.server.events("trustopt.progress")
    assert [e["sample_problem"] for e in events if "sample_problem" in e] == [
        "OutOfMemoryError: Allocation on device 0 would exceed allowed memory"
    ]
    texts = [text for node_id, text in comfyui.server.texts if node_id == "5"]
    assert "sample pictures failed at step 2: OutOfMemoryError" in texts[-1]
    recorded = (run_of().parent / "signals.jsonl").read_text()
    assert "samples failed" in recorded


def test_a_resumed_run_goes_on_with_its_grid(comfyui, run_of) -> None:
    stop = own_module("runs").request_stop_and_keep
    at_event(comfyui, lambda event: event["step"] == 2 and "samples" in event, stop)
    assert comfyui.run(sampling(steps=4, samples={"every": 1})) == "success"
    assert steps_in(run_of()) == [0, 1, 2]
    before = pixels(run_of() / "grid.png")
    comfyui.server.on_send = None
    assert comfyui.run(sampling(steps=4, samples={"every": 1}, resume=True)) == "success"
    assert steps_in(run_of()) == [0, 1, 2, 3, 4]
    after = pixels(run_of() / "grid.png")
    assert (after[:, : before.shape[1] - 12] == before[:, :-12]).all()
    assert after.shape[1] == before.shape[1] + 2 * (192 + 12)
    listed = own_module("routes").describe(run_of().parent, 0)["samples"]
    assert [picture["step"] for picture in listed] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
