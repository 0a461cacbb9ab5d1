"""The name tables against diffusers' own modules, full size on the meta device, and tiny."""

import pytest
import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel, UNet2DConditionModel

from trustopt.hosts.layouts.flux import FLUX_TRANSFORMER, FluxLayout
from trustopt.hosts.layouts.unet import SDXL_UNET
from trustopt.hosts.layouts.vae import FLUX_VAE, SDXL_VAE
from trustopt.hosts.names import flux_names, unet_names, vae_names
from trustopt.hosts.shapes import flux_shapes, unet_shapes, vae_shapes
from trustopt.hosts.tiny.specs import FLUX, SDXL

SCHNELL = FluxLayout(guidance=False)
CASES = {
    "sdxl": (UNet2DConditionModel, SDXL_UNET, unet_names, unet_shapes),
    "sdxl-tiny": (UNet2DConditionModel, SDXL.unet, unet_names, unet_shapes),
    "flux-dev": (FluxTransformer2DModel, FLUX_TRANSFORMER, flux_names, flux_shapes),
    "flux-schnell": (FluxTransformer2DModel, SCHNELL, flux_names, flux_shapes),
    "flux-tiny": (FluxTransformer2DModel, FLUX.unet, flux_names, flux_shapes),
    "sdxl-vae": (AutoencoderKL, SDXL_VAE, vae_names, vae_shapes),
    "flux-vae": (AutoencoderKL, FLUX_VAE, vae_names, vae_shapes),
    "tiny-vae": (AutoencoderKL, SDXL.vae, vae_names, vae_shapes),
}


@pytest.fixture(params=CASES, scope="module")
def case(request):
    """Return ``(diffusers module, names, shapes)`` of one network, without memory."""
    cls, layout, names, shapes = CASES[request.param]
    with torch.device("meta"):
        module = cls(**layout.diffusers_config())
    return module, names(layout), shapes(layout)


def with_parameters(module):
    return {name for name, child in module.named_modules() if list(child.parameters(recurse=False))}


def test_every_module_with_weights_is_held_exactly_once(case):
    module, names, _ = case
    held = [part.module for parts in names.values() for part in parts]
    assert len(held) == len(set(held))
    assert set(held) == with_parameters(module)


def test_the_parts_shapes_make_up_the_files_shapes(case):
    module, names, shapes = case
    theirs = {name: tuple(p.shape) for name, p in module.named_parameters()}
    assert {name.rpartition(".")[0] for name in shapes} == set(names)
    for name, shape in shapes.items():
        layer, _, kind = name.rpartition(".")
        kind = "weight" if kind == "scale" else kind
        parts = [theirs[f"{part.module}.{kind}"] for part in names[layer]]
        assert sum(part[0] for part in parts) == shape[0], name
        assert all(part[1:] == shape[1 : len(part)] for part in parts), name
        rows = [part.rows for part in names[layer]]
        assert rows == [None] or rows == [part[0] for part in parts]


def linear_layers(module, names, pattern):
    """Return the canonical names below a prefix whose parts are all linear layers."""
    modules = dict(module.named_modules())
    return [
        name
        for name, parts in names.items()
        if pattern(name) and all(isinstance(modules[p.module], torch.nn.Linear) for p in parts)
    ]


def test_sdxl_has_the_722_layers_other_trainers_train():
    with torch.device("meta"):
        module = UNet2DConditionModel(**SDXL_UNET.diffusers_config())
    found = linear_layers(
        module,
        unet_names(SDXL_UNET),
        lambda name: "transformer_blocks" in name or name.endswith(("proj_in", "proj_out")),
    )
    assert len(found) == 722
    modules = dict(module.named_modules())
    linears = [modules[unet_names(SDXL_UNET)[name][0].module] for name in found]
    assert sum(16 * (m.in_features + m.out_features) for m in linears) == 42_557_440


def test_flux_has_the_304_layers_other_trainers_train():
    with torch.device("meta"):
        module = FluxTransformer2DModel(**FLUX_TRANSFORMER.diffusers_config())
    found = linear_layers(
        module, flux_names(FLUX_TRANSFORMER), lambda name: name.startswith(("double", "single"))
    )
    assert len(found) == 304
    shapes = flux_shapes(FLUX_TRANSFORMER)
    assert sum(16 * sum(shapes[f"{name}.weight"]) for name in found) == 76_578_816


def test_the_names_people_know():
    sdxl, flux = unet_names(SDXL_UNET), flux_names(FLUX_TRANSFORMER)
    expected = {
        "input_blocks.3.0.op": "down_blocks.0.downsamplers.0.conv",
        "input_blocks.4.1.proj_in": "down_blocks.1.attentions.0.proj_in",
        "input_blocks.8.1.transformer_blocks.9.attn2.to_out.0": (
            "down_blocks.2.attentions.1.transformer_blocks.9.attn2.to_out.0"
        ),
        "output_blocks.2.2.conv": "up_blocks.0.upsamplers.0.conv",
        "output_blocks.8.0.skip_connection": "up_blocks.2.resnets.2.conv_shortcut",
    }
    for ours, theirs in expected.items():
        assert [part.module for part in sdxl[ours]] == [theirs]
    assert [(part.module, part.rows) for part in flux["single_blocks.37.linear1"]] == [
        ("single_transformer_blocks.37.attn.to_q", 3072),
        ("single_transformer_blocks.37.attn.to_k", 3072),
        ("single_transformer_blocks.37.attn.to_v", 3072),
        ("single_transformer_blocks.37.proj_mlp", 12288),
    ]
