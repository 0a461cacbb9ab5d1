"""Files of every algorithm, family and format: ComfyUI's loader makes the trained model of them."""

import logging

import comfy.lora
import comfy.model_base
import comfy.supported_models
import comfy.utils
import pytest
import torch
import trustopt_test_models as tiny
from trustopt_pack.nodes.bridge.apply import apply_lora
from trustopt_pack.nodes.bridge.host import ComfyHost
from trustopt_pack.trustopt.adapters import (
    build_adapters,
    read_lora,
    save_lora,
    select_layers,
    self_check,
)
from trustopt_pack.trustopt.adapters.formats import to_tensors
from trustopt_pack.trustopt.adapters.patch import merge
from trustopt_pack.trustopt.config import AdapterConfig
from trustopt_pack.trustopt.host import LayerShape
from trustopt_test_reference import relative_error

ALGORITHMS = ["lora", "locon", "rslora", "dora", "loha", "lokr", "oft"]
FORMATS = [
    *(
        (family, algorithm, form)
        for family in ("sdxl", "flux")
        for algorithm in ALGORITHMS
        for form in ("kohya", "comfy")
    ),
    *(("flux", algorithm, "diffusers") for algorithm in ("lora", "rslora")),
]
TARGETS = {"kohya": "default", "comfy": "full", "diffusers": "full"}
TOLERANCE = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 1e-2}


def trained_adapters(host: ComfyHost, algorithm: str, *, targets: str = "default"):
    """Return adapters in which every factor has a value, as after training."""
    config = AdapterConfig(algorithm=algorithm, rank=4, alpha=3.0, conv_rank=3, targets=targets)
    layers = select_layers(host.layers(), config, host.family)
    adapters = build_adapters(layers, config, torch.Generator().manual_seed(0))
    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in adapters.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=source) * 0.1)
    return adapters


def output_of(patcher, family: str, adapters) -> torch.Tensor:
    host = ComfyHost(patcher, object(), object())
    with host.session(adapters, checkpointing=False), torch.no_grad():
        return host.denoise(*tiny.batch(family))


def applied(patcher, path):
    file = comfy.utils.load_torch_file(str(path), safe_load=True)
    with torch.inference_mode(True):
        return apply_lora(patcher, None, file, 1.0)


@pytest.mark.parametrize(("family", "algorithm", "form"), FORMATS)
def test_the_loaded_file_is_the_trained_model(family, algorithm, form, tmp_path) -> None:
    patcher = tiny.build(family)
    host = ComfyHost(patcher, object(), object())
    adapters = trained_adapters(host, algorithm, targets=TARGETS[form])
    base = output_of(patcher, family, {})
    trained = output_of(patcher, family, adapters)
    assert relative_error([trained], [base]) > 0.01

    path = save_lora(
        tmp_path / "a.safetensors",
        adapters.patches(),
        family=family,
        metadata={},
        file_format=form,
        dtype=torch.float32,
    )
    loaded = applied(patcher, path)

    assert loaded.mapped == loaded.total
    assert relative_error([output_of(loaded.model, family, {})], [trained]) < 1e-5
    assert self_check(path, adapters.patches(), host.layers(), family).ok
    assert torch.equal(output_of(patcher, family, {}), base)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_half_precision_files_are_near(algorithm, dtype, tmp_path) -> None:
    patcher = tiny.build("flux")
    adapters = trained_adapters(ComfyHost(patcher, object(), object()), algorithm)
    trained = output_of(patcher, "flux", adapters)
    path = save_lora(
        tmp_path / "a.safetensors", adapters.patches(), family="flux", metadata={}, dtype=dtype
    )
    loaded = applied(patcher, path)
    assert relative_error([output_of(loaded.model, "flux", {})], [trained]) < TOLERANCE[dtype]


@pytest.mark.parametrize(("family", "algorithm", "form"), FORMATS)
def test_every_weight_is_the_one_merge_computes(family, algorithm, form) -> None:
    """ComfyUI's arithmetic and ours agree layer by layer; no key is left over."""
    patcher = tiny.build(family)
    host = ComfyHost(patcher, object(), object())
    adapters = trained_adapters(host, algorithm, targets=TARGETS[form])
    output_of(patcher, family, adapters)
    patches = adapters.patches()
    tensors = to_tensors(patches, form, family)
    key_map = comfy.lora.model_lora_keys_unet(patcher.model, {})
    unused = set(tensors)
    weights = dict(patcher.model.named_parameters())
    merged = {name: weights[f"diffusion_model.{name}.weight"].clone() for name in patches}
    for key, adapter in comfy.lora.load_lora(tensors, key_map).items():
        name, offset, function = (key, None, None) if isinstance(key, str) else (*key, None)[:3]
        name = name.removeprefix("diffusion_model.").removesuffix(".weight")
        patch = (1.0, adapter, 1.0, offset, function)
        merged[name] = comfy.lora.calculate_weight([patch], merged[name], name)
        unused -= adapter.loaded_keys
    unused = {key for key in unused if not key.endswith((".alpha", ".dora_scale"))}
    assert unused == set()
    for name, patch in patches.items():
        weight = weights[f"diffusion_model.{name}.weight"]
        assert relative_error([merged[name]], [merge(patch, weight)]) < 1e-6, name
        assert relative_error([merged[name]], [weight]) > 1e-4, name


def full_size(family: str):
    """Return a full-size network without weights, and all its layers."""
    unet = {
        "sdxl": {
            "image_size": 32, "out_channels": 4, "use_spatial_transformer": True, "legacy": False,
            "num_classes": "sequential", "adm_in_channels": 2816, "in_channels": 4,
            "model_channels": 320, "num_res_blocks": [2, 2, 2], "use_checkpoint": False,
            "transformer_depth": [0, 0, 2, 2, 10, 10], "channel_mult": [1, 2, 4],
            "transformer_depth_middle": 10, "use_linear_in_transformer": True,
            "context_dim": 2048, "num_head_channels": 64,
            "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
            "use_temporal_attention": False, "use_temporal_resblock": False,
        },
        "flux": {
            "image_model": "flux", "in_channels": 16, "out_channels": 16, "vec_in_dim": 768,
            "context_in_dim": 4096, "hidden_size": 3072, "mlp_ratio": 4.0, "num_heads": 24,
            "depth": 19, "depth_single_blocks": 38, "axes_dim": [16, 56, 56], "theta": 10000,
            "patch_size": 2, "qkv_bias": True, "guidance_embed": True, "txt_ids_dims": [],
        },
    }[family]  # fmt: skip
    kinds = {"sdxl": comfy.supported_models.SDXL, "flux": comfy.supported_models.Flux}
    config = kinds[family](unet)
    config.set_inference_dtype(torch.float32, None)
    return config.get_model({}, "", device="meta")


class TextEncoders:
    """The names of SDXL's two text encoders, as ComfyUI's CLIP has them."""

    def state_dict(self) -> dict:
        names = {}
        for encoder, depth in (("clip_l", 12), ("clip_g", 32)):
            for index in range(depth):
                layer = f"{encoder}.transformer.text_model.encoder.layers.{index}"
                for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
                    names[f"{layer}.self_attn.{part}.weight"] = None
                for part in ("fc1", "fc2"):
                    names[f"{layer}.mlp.{part}.weight"] = None
        return names


def text_encoder_layers() -> dict:
    layers = {}
    for encoder, width, name in (("clip_l", 768, "te1"), ("clip_g", 1280, "te2")):
        for key in TextEncoders().state_dict():
            if key.startswith(encoder):
                path = key.split("transformer.", 1)[1].removesuffix(".weight")
                layers[f"{name}.{path}"] = LayerShape(
                    kind="linear",
                    in_features=width * (4 if "fc2" in path else 1),
                    out_features=width * (4 if "fc1" in path else 1),
                )
    return layers


@pytest.mark.parametrize("form", ["kohya", "comfy"])
@pytest.mark.parametrize(("family", "count"), [("sdxl", 788 + 72 + 192), ("flux", 304)])
def test_all_keys_map_at_full_size(family, count, form, caplog) -> None:
    from trustopt_pack.nodes.bridge.layers import trainable_layers

    model = full_size(family)
    layers = dict(trainable_layers(model.diffusion_model))
    if family == "sdxl":
        layers |= text_encoder_layers()
    config = AdapterConfig(algorithm="locon", rank=16, train_text_encoders=family == "sdxl")
    selected = select_layers(layers, config, family)
    adapters = build_adapters(selected, config, torch.Generator(), device="meta")
    tensors = to_tensors(adapters.patches(), form, family)
    key_map = comfy.lora.model_lora_keys_unet(model, {})
    if family == "sdxl":
        key_map = comfy.lora.model_lora_keys_clip(TextEncoders(), key_map)
    with caplog.at_level(logging.WARNING):
        loaded = comfy.lora.load_lora(tensors, key_map)
    assert len(selected) == len(loaded) == count
    assert "not loaded" not in caplog.text


def test_a_file_of_ours_is_read_back_to_train_on(tmp_path) -> None:
    patcher = tiny.build("sdxl")
    host = ComfyHost(patcher, object(), object())
    adapters = trained_adapters(host, "dora", targets="attention")
    trained = output_of(patcher, "sdxl", adapters)
    path = save_lora(
        tmp_path / "a.safetensors",
        adapters.patches(),
        family="sdxl",
        metadata={},
        dtype=torch.float32,
    )
    continued = build_adapters(adapters.shapes, adapters.config, torch.Generator().manual_seed(7))
    assert continued.load_patches(read_lora(path).patches) == []
    assert relative_error([output_of(patcher, "sdxl", continued)], [trained]) < 1e-5
