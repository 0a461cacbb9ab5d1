"""Diffusers' own ``load_lora_weights`` makes the trained model of our files, on tiny pipelines.

Not FLUX in kohya keys: diffusers splits those by the full model's 3072 rows, written into its code.
"""

from pathlib import Path
from typing import Any

import pytest
import torch

from trustopt.adapters import build_adapters, save_lora, select_layers
from trustopt.config import AdapterConfig
from trustopt.host import Conditioning, Geometry
from trustopt.hosts.loading import load_tiny


def batch(host: Any) -> tuple[torch.Tensor, torch.Tensor, Conditioning]:
    generator = torch.Generator().manual_seed(3)
    noised = torch.randn(2, host.latent_channels, 8, 8, generator=generator)
    geometry = [Geometry(original=(64, 64), crop=(0, 0), target=(64, 64))] * 2
    prompts = host.encode_prompts(["a red cat", "a dog"])
    return noised, torch.tensor([0.4, 0.9]), Conditioning(prompts=prompts, geometry=geometry)


def pipeline(host: Any) -> Any:
    """The pipeline class over the host's own network, whose loader is the one users call."""
    import diffusers

    parts = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")
    if host.family == "sdxl":
        return diffusers.StableDiffusionXLPipeline(
            **dict.fromkeys(parts), unet=host.network, add_watermarker=False
        )
    return diffusers.FluxPipeline(**dict.fromkeys(parts), transformer=host.network)


def relative_error(one: torch.Tensor, two: torch.Tensor) -> float:
    return float((one - two).detach().norm() / two.detach().norm())


@pytest.mark.parametrize(
    ("family", "file_format", "algorithm", "targets"),
    [
        ("sdxl", "kohya", "locon", "default"),
        ("flux", "diffusers", "lora", "default"),
        ("flux", "diffusers", "rslora", "full"),
    ],
)
def test_the_loaded_file_is_the_trained_model(
    family: Any, file_format: Any, algorithm: Any, targets: Any, tmp_path: Path
) -> None:
    host = load_tiny(family)
    config = AdapterConfig(
        algorithm=algorithm, rank=4, alpha=3.0, conv_rank=3, conv_alpha=2.0, targets=targets
    )
    layers = select_layers(host.layers(), config, family)
    adapters = build_adapters(layers, config, torch.Generator().manual_seed(0))
    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in adapters.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=source) * 0.1)
    given = batch(host)
    with torch.no_grad():
        with host.session({}, checkpointing=False):
            base = host.denoise(*given)
        with host.session(adapters, checkpointing=False):
            trained = host.denoise(*given)
    assert relative_error(trained, base) > 0.01
    path = save_lora(
        tmp_path / "a.safetensors",
        adapters.patches(),
        family=family,
        metadata={},
        file_format=file_format,
        dtype=torch.float32,
    )

    pipe = pipeline(host)
    pipe.load_lora_weights(str(tmp_path), weight_name=path.name)

    denoiser = host._denoiser  # the session would look for layers where PEFT has put its own
    with torch.no_grad():
        loaded = denoiser(*given, torch.float32)
    assert relative_error(loaded, trained) < 1e-5
