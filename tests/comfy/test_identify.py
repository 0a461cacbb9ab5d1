"""What a MODEL is, its layers, and hashes that tell it from others."""

import comfy.model_sampling
import comfy.sd
import comfy.supported_models
import pytest
import torch
import trustopt_test_models as tiny
from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete
from trustopt_pack.nodes.bridge.host import ComfyHost, compute_dtype
from trustopt_pack.nodes.bridge.identify import family_of
from trustopt_pack.nodes.bridge.layers import trainable_layers
from trustopt_pack.nodes.bridge.tiny import load_tiny
from trustopt_pack.trustopt.config import AdapterConfig


class Patcher:
    """A MODEL of a stock configuration without weights."""

    def __init__(self, config, unet: dict) -> None:
        config = config({**unet, "dtype": torch.bfloat16})
        with torch.device("meta"):
            self.model = config.get_model({}, "", device=torch.device("meta"))


FULL_SDXL = {
    **tiny.SDXL,
    **comfy.supported_models.SDXL.unet_config,
    "num_res_blocks": [2, 2, 2],
    "channel_mult": [1, 2, 4],
    "transformer_depth_middle": 10,
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
}
FULL_FLUX = {
    **tiny.FLUX,
    "vec_in_dim": 768,
    "context_in_dim": 4096,
    "hidden_size": 3072,
    "num_heads": 24,
    "depth": 19,
    "depth_single_blocks": 38,
    "axes_dim": [16, 56, 56],
}


def test_full_size_layers_are_the_known_ones() -> None:
    """722 modules and 42.56 M parameters at rank 16 for SDXL, 304 and 76.58 M for FLUX."""
    from trustopt_pack.trustopt.adapters import select_layers

    for config, unet, family, count, parameters in (
        (comfy.supported_models.SDXL, FULL_SDXL, "sdxl", 722, 42.56e6),
        (comfy.supported_models.Flux, FULL_FLUX, "flux", 304, 76.58e6),
    ):
        model = Patcher(config, unet)
        assert family_of(model) == family
        layers = trainable_layers(model.model.diffusion_model)
        chosen = select_layers(layers, AdapterConfig(), family)
        assert len(chosen) == count
        size = sum(16 * (s.in_features + s.out_features) for s in chosen.values())
        assert size == pytest.approx(parameters, rel=1e-3)


@pytest.mark.parametrize(
    ("config", "unet", "says"),
    [
        ("SDXLRefiner", {**tiny.SDXL, "adm_in_channels": 2560}, "MODEL is SDXLRefiner .second"),
        ("SD15", tiny.SDXL, "MODEL is SD15, which is not trained here"),
        ("SDXL_instructpix2pix", {**tiny.SDXL, "in_channels": 8}, "MODEL is SDXL_instruct.*source"),
        ("SDXL", {**tiny.SDXL, "in_channels": 9}, "MODEL is SDXL for inpainting.*reads 9 channels"),
        ("FluxInpaint", {**tiny.FLUX, "in_channels": 96}, "MODEL is FluxInpaint for inpainting"),
        ("Flux", {**tiny.FLUX, "in_channels": 32}, "MODEL is Flux for inpainting, depth or edges"),
    ],
)
def test_others_are_named_and_refused(config, unet, says) -> None:
    model = Patcher(getattr(comfy.supported_models, config), unet)
    with pytest.raises(ValueError, match=says.replace(".second", r"\(it is SDXL's second")) as e:
        family_of(model)
    assert "SDXL and FLUX.1" in str(e.value).splitlines()[0]


@pytest.mark.parametrize("name", ["Chroma", "Flux2", "LongCatImage", "Flux"])
def test_flux_variants_are_told_apart_by_their_network(name) -> None:
    import comfy.model_base

    class Bare:
        model_config = getattr(comfy.supported_models, name)
        latent_format = comfy.supported_models.Flux.latent_format()

    network = object.__new__(getattr(comfy.model_base, name))
    network.__dict__.update(
        model_config=type(name, (), {"unet_config": {"in_channels": 16}})(),
        latent_format=Bare.latent_format,
    )
    model = type("Model", (), {"model": network})()
    if name == "Flux":
        assert family_of(model) == "flux"
    else:
        with pytest.raises(ValueError, match=rf"^MODEL is {name} \(it"):
            family_of(model)


@pytest.mark.parametrize("kind", ["lcm", "x0", "img_to_img"])
def test_sampling_without_a_loss_is_refused(kind) -> None:
    patcher = ModelSamplingDiscrete().patch(tiny.build("sdxl"), kind, False)[0]
    with pytest.raises(ValueError, match=r"^MODEL samples as .* eps, v-prediction and flow"):
        ComfyHost(patcher, object(), object())


@pytest.mark.parametrize("kind", ["eps", "v_prediction"])
def test_sampling_node_decides_the_prediction(kind) -> None:
    patcher = ModelSamplingDiscrete().patch(tiny.build("sdxl"), kind, True)[0]
    host = ComfyHost(patcher, object(), object())
    assert host.prediction == kind[0].replace("e", "eps")
    assert float(host.sigmas[-1]) == pytest.approx(4518.76, rel=1e-3)


def test_missing_parts_are_named() -> None:
    model = tiny.build("sdxl")
    with pytest.raises(ValueError, match=r"^CLIP is missing: connect a CLIP loader"):
        ComfyHost(model, None, object())
    with pytest.raises(ValueError, match=r"^VAE is missing"):
        ComfyHost(model, object(), None)
    with pytest.raises(ValueError, match=r"^MODEL is missing"):
        ComfyHost(None, object(), object())


@pytest.mark.parametrize(
    ("storage", "dtype"), [("fp32", "float32"), ("bf16", "bfloat16"), ("fp8", "float32")]
)
def test_compute_dtype_is_the_activations(storage, dtype) -> None:
    assert compute_dtype(tiny.build("flux", storage)) == getattr(torch, dtype)


def test_identity_tells_models_and_encoders_apart() -> None:
    parts = load_tiny("sdxl")
    host = ComfyHost(parts.model, parts.clip, parts.vae)
    plain = host.identity()

    file = tiny.kohya(tiny.adapters(host, names={"middle_block.1.proj_in"}))
    patched = comfy.sd.load_lora_for_models(parts.model, None, file, 1.0, 0.0)[0]
    stronger = comfy.sd.load_lora_for_models(parts.model, None, file, 0.5, 0.0)[0]
    hashes = [
        ComfyHost(model, parts.clip, parts.vae).identity()["network"]
        for model in (parts.model, patched, stronger)
    ]
    assert len(set(hashes)) == 3
    tiny.sample(patched, "sdxl", given=host.encode_prompts([""])[0])  # weights are merged now
    assert ComfyHost(parts.model, parts.clip, parts.vae).identity() == plain

    skipped = parts.clip.clone()
    skipped.clip_layer(-1)
    other = ComfyHost(parts.model, skipped, parts.vae).identity()
    assert other["text_encoders"] != plain["text_encoders"]
    assert other["network"] == plain["network"]

    parts.vae.vae_dtype = torch.bfloat16
    again = ComfyHost(parts.model, parts.clip, parts.vae).identity()
    assert again["vae"] != plain["vae"]
    assert again["text_encoders"] == plain["text_encoders"]


def test_quantised_models_have_an_identity() -> None:
    from trustopt_pack.nodes.bridge.fingerprint import weights_fingerprint

    found = {s: weights_fingerprint(tiny.build("flux", s)) for s in tiny.STORAGE}
    assert len(set(found.values())) == len(tiny.STORAGE)
    assert found["int8-quantised"] == weights_fingerprint(tiny.build("flux", "int8-quantised"))
