"""Mirrors trustopt/train/effect.py: a saved file is tried in the network it was trained on."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from toy import job

from trustopt.train import effect
from trustopt.train.lora_file import LoraWriter
from trustopt.train.run import run_job


@pytest.mark.parametrize(("dtype", "bound"), [("fp32", 1e-6), ("fp16", 1e-2), ("bf16", 5e-2)])
def test_the_files_effect_is_the_trained_one(tmp_path, dtype, bound) -> None:
    result = run_job(job(tmp_path, save_dtype=dtype))
    assert result.status == "finished"
    assert 0.0 <= result.report.effect_error <= bound
    assert "its effect by" in result.report.summary()


def test_a_file_that_does_something_else_is_no_success(tmp_path, monkeypatch) -> None:
    honest = LoraWriter.save_checked

    def tampered(writer, path):
        report = honest(writer, path)
        tensors = load_file(path)
        save_file({k: t * 1.1 if "lora_up" in k else t for k, t in tensors.items()}, path)
        return report  # as if comparing weights had overlooked it

    monkeypatch.setattr(LoraWriter, "save_checked", tampered)
    result = run_job(job(tmp_path))
    assert result.status == "faulty"
    assert "otherwise than training did" in result.report.problems[0]
    assert result.lora.exists()


def test_trying_a_file_leaves_the_weights_as_they_were(tmp_path, monkeypatch) -> None:
    seen = []
    real = effect.effect_of_file

    def watched(run, path):
        before = run.adapters.state_dict()
        values = real(run, path)
        after = run.adapters.state_dict()
        seen.append(all(torch.equal(before[k], after[k]) for k in before))
        return values

    monkeypatch.setattr(effect, "effect_of_file", watched)
    run_job(job(tmp_path, ema_decay=0.9))
    assert seen == [True]
