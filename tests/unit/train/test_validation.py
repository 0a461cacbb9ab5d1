"""Mirrors trustopt/train/validation.py against a loop written by hand."""

import pytest
import torch
from toy import job

from trustopt.config import DataConfig
from trustopt.train.run import build_run, check, encode, validation_of
from trustopt.train.validation import LEVELS


def test_the_loss_is_the_plain_mean_over_pictures_and_levels_with_the_same_noise(tmp_path) -> None:
    made = job(tmp_path, seed=3, data=DataConfig(resolution=32, validation_fraction=0.4))
    adapters = check(made)
    dataset = encode(made, adapters)
    run = build_run(made, dataset, adapters)
    validation = validation_of(made, dataset)
    with torch.no_grad():
        for parameter in adapters.parameters():
            parameter.add_(0.1)
    before = run.position()

    with made.host.session(adapters.layers, checkpointing=False), torch.no_grad():
        found = validation.loss(run)
        again = validation.loss(run)
        generator, losses = torch.Generator().manual_seed(3), []
        for index in dataset.validation:
            latents = dataset.latents.load(dataset.latent_keys[index][0]).mean[None]
            prompt = dataset.prompts.load(dataset.captions[index][0])
            for level in LEVELS:
                noise = torch.randn(latents.shape, generator=generator)
                sigma = torch.tensor([level])
                output = made.host.network(
                    (1 - level) * latents + level * noise, sigma, prompt["context"].mean(0)[None]
                )
                losses.append(float((output - (noise - latents)).square().mean()))

    assert len(losses) == 2 * 5
    assert found == again == pytest.approx(sum(losses) / len(losses), rel=1e-6)
    after = run.position()
    assert torch.equal(before["generator"], after["generator"])
