"""Captions and pictures through ComfyUI's own CLIP and VAE objects."""

import pytest
import torch
from trustopt_pack.nodes.bridge.conditioning import encode_captions
from trustopt_pack.nodes.bridge.host import ComfyHost
from trustopt_pack.nodes.bridge.tiny import load_tiny
from trustopt_pack.trustopt.host import Conditioning, Geometry


def host_of(parts, **other) -> ComfyHost:
    given = {"model": parts.model, "clip": parts.clip, "vae": parts.vae, **other}
    return ComfyHost(given["model"], given["clip"], given["vae"])


def pixels(count: int = 1, height: int = 64, width: int = 64) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_prompts_and_latents_can_be_trained_on(family) -> None:
    parts = load_tiny(family)
    host = host_of(parts)
    with torch.inference_mode(True):  # as a node runs
        prompts = host.encode_prompts(["one", "two", "one"])
        latents = host.encode_images(pixels(2, 64, 96))

    assert torch.equal(prompts[0]["context"], prompts[2]["context"])
    assert not torch.equal(prompts[0]["context"], prompts[1]["context"])
    assert latents.mean.shape == (2, host.latent_channels, 8, 12)
    for tensor in (*prompts[0].values(), latents.mean, latents.std):
        assert tensor.dtype == torch.float32
        assert tensor.device.type == "cpu"
        assert not tensor.is_inference()
        assert not tensor.requires_grad


@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_contexts_are_rounded_to_what_the_network_takes_and_no_further(family) -> None:
    parts = load_tiny(family)
    half = parts.model.clone()
    half.set_model_compute_dtype(torch.bfloat16)
    exact = host_of(parts).encode_prompts(["a cat"])[0]
    host = host_of(parts, model=half)
    rounded = host.encode_prompts(["a cat"])[0]

    assert rounded["context"].dtype == torch.bfloat16
    assert torch.equal(rounded["context"], exact["context"].bfloat16())
    assert torch.equal(rounded["pooled"], exact["pooled"])
    assert host.identity()["text_encoders"] != host_of(parts).identity()["text_encoders"]
    size = (64, 64)
    geometry = [Geometry(original=size, crop=(0, 0), target=size)]
    noised = torch.ones(1, host.latent_channels, 8, 8)
    with host.session({}, checkpointing=False):
        one, other = (
            host.denoise(noised, torch.ones(1), Conditioning(prompts=[p], geometry=geometry))
            for p in (exact, rounded)
        )
    assert torch.equal(one, other)


@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_latents_are_the_vaes_in_the_networks_scale(family) -> None:
    parts = load_tiny(family)
    found = host_of(parts).encode_images(pixels())

    with torch.inference_mode(True):
        mean = parts.vae.encode(pixels().movedim(1, -1))
        moments = parts.vae.first_stage_model.quant_conv(
            parts.vae.first_stage_model.encoder(pixels() * 2.0 - 1.0)
        )
    scale = parts.model.model.latent_format.scale_factor
    torch.testing.assert_close(found.mean, parts.model.model.process_latent_in(mean))
    std = torch.exp(0.5 * moments.chunk(2, dim=1)[1])
    torch.testing.assert_close(found.std, std * scale, rtol=1e-3, atol=1e-6)
    assert not parts.vae.first_stage_model.regularization._forward_hooks


def test_a_pictures_latents_do_not_depend_on_its_batch() -> None:
    host = host_of(load_tiny("flux"))
    together = host.encode_images(pixels(3))
    alone = host.encode_images(pixels(3)[1:2])
    assert torch.equal(together.mean[1:2], alone.mean)
    assert torch.equal(together.std[1:2], alone.std)


def test_vae_without_a_posterior_has_no_deviation() -> None:
    class Plain:
        first_stage_model = torch.nn.Identity()

        def encode(self, images: torch.Tensor) -> torch.Tensor:
            return torch.ones(1, 4, images.shape[1] // 8, images.shape[2] // 8)

    found = host_of(load_tiny("sdxl"), vae=Plain()).encode_images(pixels())

    assert torch.equal(found.std, torch.zeros(1, 4, 8, 8))
    torch.testing.assert_close(found.mean, torch.full((1, 4, 8, 8), 0.13025))


def test_latents_encoded_in_tiles_have_no_deviation() -> None:
    parts = load_tiny("sdxl")
    encode, calls = parts.vae.first_stage_model.encode, []

    def out_of_memory_once(*args, **kwargs):
        calls.append(1)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("none left")
        return encode(*args, **kwargs)

    parts.vae.first_stage_model.encode = out_of_memory_once
    found = host_of(parts).encode_images(pixels(1, 64, 1024))
    assert len(calls) > 2
    assert found.mean.shape == (1, 4, 8, 128)
    assert torch.equal(found.std, torch.zeros_like(found.std))


def test_encoders_of_another_family_are_refused() -> None:
    sdxl, flux = load_tiny("sdxl"), load_tiny("flux")
    with pytest.raises(ValueError, match=r"^VAE gives latents of shape .* connect the VAE of the"):
        host_of(sdxl, vae=flux.vae).encode_images(pixels())
    with pytest.raises(ValueError, match=r"^CLIP gives vectors of widths .* this sdxl MODEL takes"):
        host_of(sdxl, clip=flux.clip).encode_prompts(["a"])
    with pytest.raises(ValueError, match=r"^CLIP gives vectors of widths .* this flux MODEL takes"):
        host_of(flux, clip=sdxl.clip).encode_prompts(["a"])


def test_clip_without_a_pooled_vector_is_refused() -> None:
    class TextOnly:
        def tokenize(self, text: str, **_: object) -> dict:
            return {}

        def encode_from_tokens(self, tokens: dict, return_pooled: bool):
            return torch.zeros(1, 8, 48), None

    with pytest.raises(ValueError, match=r"^CLIP gives no pooled vector"):
        encode_captions(TextOnly(), ["a"])


def test_captions_are_literal() -> None:
    """Brackets in a caption are part of a name, not an emphasis."""
    host = host_of(load_tiny("sdxl"))
    plain, escaped, weighted, bare = host.encode_prompts(
        ["saber (fate)", "saber \\(fate\\)", "saber (fate:1.3)", "saber fate"]
    )
    assert torch.equal(plain["context"], escaped["context"])
    assert not torch.equal(plain["context"], weighted["context"])
    assert not torch.equal(plain["context"], bare["context"])
