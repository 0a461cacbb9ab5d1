"""Mirrors trustopt/train/loop.py: whole steps against a loop written by hand."""

import math

import pytest
import torch
from toy import DOWN, UP, ToyHost, images, job

from trustopt.config import AdapterConfig, DataConfig
from trustopt.train.loop import train
from trustopt.train.run import build_run, check, encode

STEPS = 9
SETTINGS = {
    "steps": STEPS,
    "lr": 0.02,
    "batch_size": 2,
    "accumulation": 3,
    "scheduler": "cosine",
    "warmup_steps": 2,
    "max_grad_norm": 0.05,  # below every gradient's norm
    "ema_decay": 0.5,
    "adapter": AdapterConfig(
        rank=2, alpha=3.0, ranks={"mlp.2": 3}, lr_scales={"mlp.2": 0.25}, lora_plus_ratio=4.0
    ),
    "data": DataConfig(resolution=32, regularisation_weight=0.5),
}


def built(folder):
    made = job(folder, **SETTINGS)
    made.images = images(5).with_regularisation(images(2))
    adapters = check(made)
    return made, build_run(made, encode(made, adapters), adapters)


def learning_rate(step: int) -> float:
    """Two steps of warm-up, then a quarter wave of cosine."""
    if step < 2:
        return 0.02 * (step + 1) / 2
    return 0.02 * 0.5 * (1.0 + math.cos(math.pi * (step - 2) / (STEPS - 2)))


def output(host: ToyHost, noised, sigma, prompts, change: dict) -> torch.Tensor:
    """Run the toy network with changes added to its weights."""
    network = host.network
    context = torch.stack([p["context"].mean(0) for p in prompts])[:, None, None]
    hidden = noised.movedim(1, -1) @ (network.up.weight + change[UP]).T + network.up.bias
    hidden = torch.tanh(hidden + context + sigma.view(-1, 1, 1, 1))
    return (hidden @ (network.down.weight + change[DOWN]).T + network.down.bias).movedim(-1, 1)


def by_hand(folder) -> tuple[dict, dict, list[float]]:
    """Return trained factors, their average, and the losses, of a loop that shares draws alone."""
    made, run = built(folder)
    scales = {UP: 3.0 / 2, DOWN: 3.0 / 3}
    names = [(layer, factor) for layer in (UP, DOWN) for factor in ("lora_A", "lora_B")]
    weights = {
        (layer, factor): run.adapters.tensors(layer)[f"{factor}.weight"].detach().clone()
        for layer, factor in names
    }
    rates = {
        key: (0.25 if key[0] == DOWN else 1.0) * (4.0 if key[1] == "lora_B" else 1.0)
        for key in names
    }
    first, second = ({key: torch.zeros_like(w) for key, w in weights.items()} for _ in range(2))
    average = {key: w.clone() for key, w in weights.items()}
    losses = []
    for step in range(STEPS):
        for w in weights.values():
            w.requires_grad_(True)
        total = torch.zeros(())
        for _ in range(3):
            batch = next(run.batches)
            draw = run.objective.draw(batch.latents, run.generator)
            change = {
                layer: scales[layer] * weights[layer, "lora_B"] @ weights[layer, "lora_A"]
                for layer in (UP, DOWN)
            }
            found = output(made.host, draw.noised, draw.sigma, batch.prompts, change)
            target = draw.target
            if batch.is_regularisation:
                none = {UP: torch.zeros(()), DOWN: torch.zeros(())}
                target = output(made.host, draw.noised, draw.sigma, batch.prompts, none).detach()
            weight = 0.5 if batch.is_regularisation else 1.0
            total = total + weight * (found - target).square().mean() / 3
        gradients = dict(
            zip(names, torch.autograd.grad(total, [weights[k] for k in names]), strict=True)
        )
        losses.append(float(total.detach()))
        norm = math.sqrt(sum(float(g.square().sum()) for g in gradients.values()))
        assert norm > 0.05
        decay = min(0.5, (2 + step) / (11 + step))
        for key in names:
            g = gradients[key] * 0.05 / (norm + 1e-6)
            first[key] = 0.9 * first[key] + 0.1 * g
            second[key] = 0.999 * second[key] + 0.001 * g.square()
            lr = learning_rate(step) * rates[key]
            mean = first[key] / (1 - 0.9 ** (step + 1))
            deviation = (second[key] / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
            weights[key] = weights[key].detach() * (1 - lr * 0.01) - lr * mean / deviation
            average[key] = decay * average[key] + (1 - decay) * weights[key]
    return weights, average, losses


def test_nine_steps_are_those_of_a_plain_loop(tmp_path) -> None:
    weights, average, losses = by_hand(tmp_path / "plain")
    made, run = built(tmp_path / "ours")
    reports = []
    with made.host.session(run.adapters.layers, checkpointing=False):
        train(run, reports.append)

    assert [r.loss for r in reports] == pytest.approx(losses, rel=1e-5)
    assert [r.lr for r in reports] == pytest.approx([learning_rate(s) for s in range(STEPS)])
    for (layer, factor), wanted in weights.items():
        found = run.adapters.tensors(layer)[f"{factor}.weight"].detach()
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
    run.ema.swap(run.adapters.parameters())
    for (layer, factor), wanted in average.items():
        found = run.adapters.tensors(layer)[f"{factor}.weight"].detach()
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
