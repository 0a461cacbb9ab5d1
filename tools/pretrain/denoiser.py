"""Trains the tiny SDXL's network and both text encoders on the latents of the pictures."""

import random
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trustopt.hosts.modules import build_modules
from trustopt.hosts.noise_levels import nearest_timestep, sdxl_sigmas
from trustopt.hosts.sampling import euler
from trustopt.hosts.tiny.specs import PICTURE_SIZE, SDXL
from trustopt.hosts.tiny.tokenizer import word_ids
from trustopt.hosts.tiny.weights import tiny_state_dict

from .autoencoder import SCALE, encode_all, load_autoencoder
from .captions import caption_ids, token_rows
from .checkpoint import read_parts, write_checkpoint
from .clock import Clock
from .pictures import Emoji
from .sheet import write_sheet

BATCH = 32
LR = 1.5e-3
AVERAGE = 0.997
"""Decay a step of the averaged weights, which are those that are kept."""
HEAVIEST = 25.0
"""Bound of a noise level's weight; see ``_loss``."""
SAMPLING_STEPS = 25
GUIDANCE = 3.5
SHOWN = (
    "grinning face", "red apple", "cat face", "dog face", "heavy black heart", "pizza",
    "sun with face", "fox face", "frog face", "panda face", "rocket", "tulip",
    "skull", "slice of pizza", "automobile", "house building",
)  # fmt: skip


class Parts(nn.ModuleDict):
    """UNet and text encoders, by component."""

    def predict(self, noised: Tensor, steps: Tensor, captions: list[list[int]]) -> Tensor:
        """Return the noise the network sees in scaled latents ``(B, 4, 8, 8)``."""
        low = self["clip_l"](token_rows(captions, SDXL.clip_l), output_hidden_states=True)
        high = self["clip_g"](token_rows(captions, SDXL.clip_g), output_hidden_states=True)
        context = torch.cat((low.hidden_states[-2], high.hidden_states[-2]), -1)
        side = float(PICTURE_SIZE)
        labels = torch.tensor([side, side, 0.0, 0.0, side, side]).expand(len(noised), 6)
        given = {"text_embeds": high.text_embeds, "time_ids": labels}
        unet: Any = self["unet"]
        return unet(
            noised,
            steps,
            encoder_hidden_states=context,
            added_cond_kwargs=given,
            return_dict=False,
        )[0]


def train_denoiser(emoji: Emoji, minutes: float, used: float, folder: Path) -> None:
    """Train for a time; ``tiny.safetensors`` and ``samples.png`` follow the progress.

    Args:
        emoji: What to learn.
        minutes: The whole budget.
        used: How much of it an earlier run has used, whose checkpoint is gone on from.
        folder: Where the autoencoder is and everything goes.
    """
    vae = load_autoencoder(folder)
    means, deviations = (x * SCALE for x in encode_all(vae, emoji.pixels[emoji.drawn]))
    names = [emoji.names[i] for i in emoji.drawn]
    file = folder / "tiny.safetensors"
    parts, averaged = _start(file if used else None), _start(file if used else None)
    parts.requires_grad_(True)
    optimizer = torch.optim.AdamW(
        parts.parameters(), lr=LR, betas=(0.9, 0.99), weight_decay=0.0, fused=True
    )
    generator, draw = torch.Generator().manual_seed(1), random.Random(1)
    clock, mean_loss = Clock(minutes, used=used), 1.0
    order: list[int] = []
    for step in clock.steps():
        if len(order) < BATCH:
            order += torch.randperm(len(names), generator=generator).tolist()
        chosen, order = order[:BATCH], order[BATCH:]
        for group in optimizer.param_groups:
            group["lr"] = clock.lr(LR)
        noise = torch.randn(BATCH, 4, 8, 8, generator=generator)
        latents = means[chosen] + deviations[chosen] * noise
        captions = caption_ids([names[i] for i in chosen], draw)
        loss = _loss(parts, latents, captions, generator)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parts.parameters(), 1.0)
        optimizer.step()
        _average(averaged, parts, min(AVERAGE, (step + 1) / (step + 20)))
        mean_loss += 0.01 * (loss.item() - mean_loss)
        if clock.is_due():
            seen = step * BATCH / len(names)
            print(f"unet {clock.minutes:.1f} min, {seen:.0f} x, loss {mean_loss:.4f}", flush=True)
            write_checkpoint({"vae": vae, **averaged}, file)
            show_samples(averaged, vae, folder / "samples.png")
    write_checkpoint({"vae": vae, **averaged}, file)
    show_samples(averaged, vae, folder / "samples.png")


def _start(file: Path | None) -> Parts:
    """Return untrained modules, or those of a checkpoint."""
    weights = read_parts(file) if file else tiny_state_dict("sdxl", pretrained=False)
    modules = build_modules(SDXL, weights, torch.float32)
    return Parts({n: m.requires_grad_(False) for n, m in modules.items() if n != "vae"})


def _loss(
    parts: Parts, latents: Tensor, captions: list[list[int]], generator: torch.Generator
) -> Tensor:
    """Return the error of the predicted noise, weighted by noise level.

    The weight, sigma squared plus one, makes it the error of v: without it the high noise levels,
    at which a picture's content is decided, would count for next to nothing.
    """
    count = len(latents)
    places = (torch.arange(count) + torch.rand(count, generator=generator)) * (1000 / count)
    steps = places.long().clamp(max=999)
    sigma = sdxl_sigmas()[steps].view(-1, 1, 1, 1)
    noise = torch.randn(latents.shape, generator=generator)
    noised = (latents + sigma * noise) * (sigma.square() + 1.0).rsqrt()
    error = (parts.predict(noised, steps, captions) - noise).square()
    return (error * (sigma.square() + 1.0).clamp(max=HEAVIEST)).mean()


@torch.no_grad()
def _average(averaged: nn.Module, current: nn.Module, decay: float) -> None:
    torch._foreach_lerp_(list(averaged.parameters()), list(current.parameters()), 1.0 - decay)


@torch.no_grad()
def show_samples(parts: Parts, vae: Any, file: Path) -> None:
    """Write a sheet of well-known names, drawn with classifier-free guidance."""
    captions = [word_ids(name) for name in SHOWN] + [[] for _ in SHOWN]
    table = sdxl_sigmas()
    levels = table[torch.linspace(999, 0, SAMPLING_STEPS).round().long()]

    def velocity(latents: Tensor, sigma: Tensor) -> Tensor:
        scaled = latents * (sigma.square() + 1.0).rsqrt()
        steps = nearest_timestep(sigma, table).expand(len(captions))
        named, unnamed = parts.predict(scaled.repeat(2, 1, 1, 1), steps, captions).chunk(2)
        return unnamed + GUIDANCE * (named - unnamed)

    noise = torch.randn(len(SHOWN), 4, 8, 8, generator=torch.Generator().manual_seed(2))
    latents = euler(velocity, noise, torch.cat((levels, torch.zeros(1))), "eps")
    write_sheet(vae.decode(latents / SCALE).sample / 2.0 + 0.5, 8, file)
