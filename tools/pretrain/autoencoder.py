"""Trains the tiny SDXL's autoencoder, and brings its latents to mean 0 and deviation 1."""

import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from trustopt.hosts.conversion import to_diffusers
from trustopt.hosts.modules import build_vae
from trustopt.hosts.names import vae_names
from trustopt.hosts.tiny.specs import SDXL
from trustopt.hosts.tiny.weights import tiny_state_dict

from .clock import Clock, write_tensors
from .pictures import Emoji, augmented

BATCH = 8
LR = 2e-3
KL_WEIGHT = 5e-4
"""Of the mean over the latents: noise costs about half of it in pixel error (L1)."""
EDGE_WEIGHT = 0.25
AREA_WEIGHT = 1.0
COLOUR_WEIGHT = 4.0
"""Of the error in hue: four channels for 64 pixels' shapes would go without red and green else."""
SCALE = SDXL.vae.scale


def train_autoencoder(
    emoji: Emoji, minutes: float, folder: Path, *, decoder_only: bool = False
) -> None:
    """Train for a time; ``vae.safetensors`` and ``vae.png`` in ``folder`` follow the progress.

    Args:
        emoji: What to learn.
        minutes: The budget.
        folder: Where the autoencoder is and goes.
        decoder_only: Leave the latents as they are, so that a denoiser trained on them stays good.
    """
    generator = torch.Generator().manual_seed(1 if decoder_only else 0)
    vae = load_autoencoder(folder)
    for module in (vae.decoder, vae.post_quant_conv) if decoder_only else (vae,):
        module.requires_grad_(True)
    trained = [p for p in vae.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LR, betas=(0.9, 0.99), weight_decay=1e-4)
    clock, mean_loss = Clock(minutes, every=2.0), 0.1
    for step in clock.steps():
        for group in optimizer.param_groups:
            group["lr"] = clock.lr(LR)
        chosen = torch.randint(len(emoji.pixels), (BATCH,), generator=generator)
        loss = _loss(vae, augmented(emoji.pixels[chosen], generator) * 2.0 - 1.0)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        mean_loss += 0.02 * (loss.item() - mean_loss)
        if clock.is_due():
            print(f"vae {clock.minutes:5.1f} min, step {step}, loss {mean_loss:.4f}", flush=True)
            write_tensors(vae.state_dict(), folder / "vae.safetensors")
            show_reconstructions(vae, emoji, folder / "vae.png")
    if not decoder_only:
        _normalise(vae, emoji.pixels)
    write_tensors(vae.state_dict(), folder / "vae.safetensors")
    show_reconstructions(vae, emoji, folder / "vae.png")


def load_autoencoder(folder: Path) -> Any:
    """Return the autoencoder of ``folder``, or an untrained one; diffusers' module, frozen."""
    file = folder / "vae.safetensors"
    if file.exists():
        weights = load_file(file)
    else:
        untrained = tiny_state_dict("sdxl", pretrained=False)["vae"]
        weights = to_diffusers(untrained, vae_names(SDXL.vae))
    return build_vae(SDXL.vae.diffusers_config(), weights).requires_grad_(False)


def _loss(vae: Any, pixels: Tensor) -> Tensor:
    """Return the errors of pixels, edges, areas and hues, and how far latents are from noise."""
    with torch.autocast("cpu", torch.bfloat16):
        posterior = vae.encode(pixels).latent_dist
        drawn = vae.decode(posterior.sample()).sample
    error = drawn.float() - pixels
    edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    # In the network's units, where the latents' deviation is one.
    mean, log_variance = posterior.mean.float() * SCALE, posterior.logvar.float()
    log_variance = log_variance + 2.0 * math.log(SCALE)
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance)
    area = torch.nn.functional.avg_pool2d(error, 4)
    colour = (area - area.mean(1, keepdim=True)).abs().mean()
    pixel = error.abs().mean() + EDGE_WEIGHT * edges
    rough = AREA_WEIGHT * area.abs().mean() + COLOUR_WEIGHT * colour
    return pixel + rough + KL_WEIGHT * divergence.mean()


@torch.no_grad()
def encode_all(vae: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of all pictures' latents, ``(N, 4, 8, 8)``, before scaling."""
    means, deviations = [], []
    for some in pixels.split(64):
        posterior = vae.encode(some.float() / 127.5 - 1.0).latent_dist
        means.append(posterior.mean)
        deviations.append(posterior.std)
    return torch.cat(means), torch.cat(deviations)


@torch.no_grad()
def _normalise(vae: Any, pixels: Tensor) -> None:
    """Shift and scale each latent channel inside the 1 x 1 convolutions around the latents."""
    means, _ = encode_all(vae, pixels)
    channels = SDXL.vae.latent_channels
    centre = means.mean((0, 2, 3))
    gain = 1.0 / (means.std((0, 2, 3)) * SCALE)
    before, after = vae.quant_conv, vae.post_quant_conv
    before.weight[:channels] *= gain.view(-1, 1, 1, 1)
    before.bias[:channels] = (before.bias[:channels] - centre) * gain
    before.bias[channels:] += 2.0 * gain.log()
    after.bias += after.weight[:, :, 0, 0] @ centre
    after.weight /= gain.view(1, -1, 1, 1)


@torch.no_grad()
def show_reconstructions(vae: Any, emoji: Emoji, file: Path) -> None:
    """Write pictures above what the autoencoder makes of them."""
    from .sheet import write_sheet

    places = torch.linspace(0, len(emoji.pixels) - 1, 24).long()
    pixels = emoji.pixels[places]
    lines = 1.0 - (1.0 - augmented(pixels[:12], torch.Generator().manual_seed(1)))
    real = torch.cat((pixels.float() / 255.0, lines))
    drawn = vae.decode(vae.encode(real * 2.0 - 1.0).latent_dist.mode()).sample / 2.0 + 0.5
    rows = [row for pair in zip(real.split(12), drawn.split(12), strict=True) for row in pair]
    write_sheet(torch.cat(rows), 12, file)
