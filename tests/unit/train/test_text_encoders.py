"""Text-encoder training through the whole engine, on the tiny SDXL."""

import torch
from safetensors.torch import load_file
from toy import images

from trustopt.config import AdapterConfig, DataConfig, JobConfig, OptimizerConfig
from trustopt.hosts.loading import load_tiny
from trustopt.train.folders import Folders
from trustopt.train.run import Job, run_job


def test_both_encoders_learn_and_are_saved(tmp_path) -> None:
    host = load_tiny("sdxl")
    caption = "picture xx"
    before = host.encode_prompts([caption])[0]
    config = JobConfig(
        name="with_text",
        steps=3,
        lr=1e-2,
        save_every=0,
        data=DataConfig(resolution=64),
        adapter=AdapterConfig(rank=2, alpha=2.0, targets="attention", train_text_encoders=True),
        optimizer=OptimizerConfig(name="adamw"),
    )
    folders = Folders(loras=tmp_path / "loras", runs=tmp_path / "runs")
    result = run_job(Job(config=config, host=host, images=images(2), folders=folders))

    assert result.report.ok, result.report.summary()
    tensors = load_file(result.lora)
    ups = {key: t for key, t in tensors.items() if "lora_up" in key}
    for prefix in ("lora_unet_", "lora_te1_text_model_", "lora_te2_text_model_"):
        assert any(key.startswith(prefix) for key in ups), prefix
    # SDXL reads te1 before its last layer, so that layer is saved as it began.
    still = {key for key, up in ups.items() if not up.abs().max() > 0}
    assert still
    assert all(key.startswith("lora_te1_text_model_encoder_layers_2_") for key in still)
    after = host.encode_prompts([caption])[0]
    assert all(torch.equal(before[key], after[key]) for key in before)
