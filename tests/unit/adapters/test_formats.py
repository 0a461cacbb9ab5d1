"""Mirrors trustopt/adapters/formats.py, keys.py, split.py and diffusers_names.py."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trustopt.adapters import LayerPatch, build_adapters, select_layers
from trustopt.adapters.compare import relative_difference
from trustopt.adapters.diffusers_names import flux_paths, to_canonical
from trustopt.adapters.formats import from_tensors, parse_layer, to_tensors
from trustopt.adapters.keys import kohya_name, split_words
from trustopt.adapters.patch import delta
from trustopt.config import AdapterConfig


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def full_size_tensors(layers: dict, family: Any, file_format: Any, **config: Any) -> dict:
    settings = AdapterConfig(rank=16, conv_rank=8, **config)
    selected = select_layers(layers, settings, family)
    adapters = build_adapters(selected, settings, generator(), device="meta")
    return to_tensors(adapters.patches(), file_format, family)


# The example shapes of the survey of what other trainers write, rank 16 (convolutions 8).
SDXL_SHAPES = {
    "lora_unet_input_blocks_4_1_proj_in": ((16, 640), (640, 16)),
    "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q": ((16, 640), (640, 16)),
    "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k": ((16, 2048), (640, 16)),
    "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_out_0": ((16, 640), (640, 16)),
    "lora_unet_input_blocks_4_1_transformer_blocks_0_ff_net_0_proj": ((16, 640), (5120, 16)),
    "lora_unet_input_blocks_4_1_transformer_blocks_0_ff_net_2": ((16, 2560), (640, 16)),
    "lora_unet_input_blocks_7_1_transformer_blocks_9_attn1_to_v": ((16, 1280), (1280, 16)),
    "lora_unet_middle_block_1_proj_out": ((16, 1280), (1280, 16)),
    "lora_unet_input_blocks_4_0_in_layers_2": ((8, 320, 3, 3), (640, 8, 1, 1)),
    "lora_unet_input_blocks_4_0_out_layers_3": ((8, 640, 3, 3), (640, 8, 1, 1)),
    "lora_unet_input_blocks_4_0_emb_layers_1": ((16, 1280), (640, 16)),
    "lora_unet_input_blocks_4_0_skip_connection": ((16, 320, 1, 1), (640, 16, 1, 1)),
    "lora_unet_input_blocks_3_0_op": ((8, 320, 3, 3), (320, 8, 1, 1)),
    "lora_unet_output_blocks_2_2_conv": ((8, 1280, 3, 3), (1280, 8, 1, 1)),
    "lora_te1_text_model_encoder_layers_0_self_attn_q_proj": ((16, 768), (768, 16)),
    "lora_te1_text_model_encoder_layers_11_mlp_fc1": ((16, 768), (3072, 16)),
    "lora_te1_text_model_encoder_layers_11_mlp_fc2": ((16, 3072), (768, 16)),
    "lora_te2_text_model_encoder_layers_0_self_attn_q_proj": ((16, 1280), (1280, 16)),
    "lora_te2_text_model_encoder_layers_31_mlp_fc1": ((16, 1280), (5120, 16)),
    "lora_te2_text_model_encoder_layers_31_mlp_fc2": ((16, 5120), (1280, 16)),
}
FLUX_SHAPES = {
    "lora_unet_double_blocks_0_img_attn_qkv": ((16, 3072), (9216, 16)),
    "lora_unet_double_blocks_18_txt_attn_proj": ((16, 3072), (3072, 16)),
    "lora_unet_double_blocks_3_img_mlp_0": ((16, 3072), (12288, 16)),
    "lora_unet_double_blocks_3_txt_mlp_2": ((16, 12288), (3072, 16)),
    "lora_unet_double_blocks_7_img_mod_lin": ((16, 3072), (18432, 16)),
    "lora_unet_single_blocks_37_linear1": ((16, 3072), (21504, 16)),
    "lora_unet_single_blocks_0_linear2": ((16, 15360), (3072, 16)),
    "lora_unet_single_blocks_0_modulation_lin": ((16, 3072), (9216, 16)),
}
DIFFUSERS_SHAPES = {
    "transformer.transformer_blocks.18.attn.to_q": ((16, 3072), (3072, 16)),
    "transformer.transformer_blocks.0.attn.add_k_proj": ((16, 3072), (3072, 16)),
    "transformer.transformer_blocks.0.attn.to_out.0": ((16, 3072), (3072, 16)),
    "transformer.transformer_blocks.0.attn.to_add_out": ((16, 3072), (3072, 16)),
    "transformer.transformer_blocks.0.ff.net.0.proj": ((16, 3072), (12288, 16)),
    "transformer.transformer_blocks.0.ff_context.net.2": ((16, 12288), (3072, 16)),
    "transformer.transformer_blocks.0.norm1_context.linear": ((16, 3072), (18432, 16)),
    "transformer.single_transformer_blocks.37.attn.to_v": ((16, 3072), (3072, 16)),
    "transformer.single_transformer_blocks.0.proj_mlp": ((16, 3072), (12288, 16)),
    "transformer.single_transformer_blocks.0.proj_out": ((16, 15360), (3072, 16)),
    "transformer.single_transformer_blocks.0.norm.linear": ((16, 3072), (9216, 16)),
}


def test_sdxl_keys_and_shapes_at_full_size(sdxl_layers: dict) -> None:
    tensors = full_size_tensors(
        sdxl_layers, "sdxl", "kohya", algorithm="locon", train_text_encoders=True
    )
    assert len(tensors) == 3 * (788 + 72 + 192)
    for name, (down, up) in SDXL_SHAPES.items():
        assert tensors[f"{name}.lora_down.weight"].shape == down, name
        assert tensors[f"{name}.lora_up.weight"].shape == up, name
        assert tensors[f"{name}.alpha"].shape == (), name


def test_flux_keys_and_shapes_at_full_size(flux_layers: dict) -> None:
    tensors = full_size_tensors(flux_layers, "flux", "kohya")
    assert len(tensors) == 3 * 304
    for name, (down, up) in FLUX_SHAPES.items():
        assert tensors[f"{name}.lora_down.weight"].shape == down, name
        assert tensors[f"{name}.lora_up.weight"].shape == up, name
    assert float(tensors["lora_unet_single_blocks_0_linear1.alpha"]) == 8.0


def test_flux_diffusers_keys_and_shapes_at_full_size(flux_layers: dict) -> None:
    selected = select_layers(flux_layers, AdapterConfig(), "flux")
    patches = {
        name: LayerPatch(
            "lora",
            {
                "lora_down.weight": torch.ones(16, shape.in_features),
                "lora_up.weight": torch.ones(shape.out_features, 16),
            },
            8.0,
        )
        for name, shape in selected.items()
        if name.split(".")[1] in ("0", "18", "37")
    }
    tensors = to_tensors(patches, "diffusers", "flux")
    assert not any(key.endswith(".alpha") for key in tensors)
    for name, (down, up) in DIFFUSERS_SHAPES.items():
        assert tensors[f"{name}.lora_A.weight"].shape == down, name
        assert tensors[f"{name}.lora_B.weight"].shape == up, name
        assert float(tensors[f"{name}.lora_B.weight"][0, 0]) == 0.5  # alpha / r, folded in
    whole = sum(len(flux_paths(name)) for name in selected)
    assert whole == 494  # modules diffusers has for the 304 canonical ones


@pytest.mark.parametrize("family", ["sdxl", "flux"])
@pytest.mark.parametrize("prefix", ["kohya", "comfy"])
def test_every_name_is_read_back(request: Any, family: Any, prefix: Any) -> None:
    layers = request.getfixturevalue(f"{family}_layers")
    some = LayerPatch("oft", {"oft_blocks": torch.zeros(1, 2, 2)}, 0.0)
    tensors = dict.fromkeys(layers, some)
    patches, file_format, unknown = from_tensors(to_tensors(tensors, prefix, family))
    assert patches.keys() == layers.keys()
    assert (file_format, unknown) == (prefix, [])


def test_every_flux_layer_has_its_diffusers_paths(flux_layers: dict) -> None:
    for name in flux_layers:
        paths = flux_paths(name)
        parts = [to_canonical(path, "flux") for path in paths]
        assert [(p.name, p.index, p.count) for p in parts] == [
            (name, index, len(paths)) for index in range(len(paths))
        ]
    with pytest.raises(ValueError, match="is not a layer of FLUX"):
        flux_paths("input_blocks.1.0")


# Diffusers paths of SDXL's UNet and where ComfyUI's own table puts them.
SDXL_PATHS = {
    "down_blocks.1.attentions.0.transformer_blocks.1.attn1.to_q": (
        "input_blocks.4.1.transformer_blocks.1.attn1.to_q"
    ),
    "down_blocks.2.attentions.1.proj_in": "input_blocks.8.1.proj_in",
    "down_blocks.0.resnets.1.conv1": "input_blocks.2.0.in_layers.2",
    "down_blocks.0.downsamplers.0.conv": "input_blocks.3.0.op",
    "mid_block.attentions.0.proj_out": "middle_block.1.proj_out",
    "mid_block.resnets.1.time_emb_proj": "middle_block.2.emb_layers.1",
    "up_blocks.0.attentions.2.transformer_blocks.9.ff.net.0.proj": (
        "output_blocks.2.1.transformer_blocks.9.ff.net.0.proj"
    ),
    "up_blocks.1.upsamplers.0.conv": "output_blocks.5.2.conv",
    "up_blocks.2.resnets.0.conv_shortcut": "output_blocks.6.0.skip_connection",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
}


@pytest.mark.parametrize("path", SDXL_PATHS)
def test_sdxl_paths_of_diffusers(path: str) -> None:
    part = to_canonical(path, "sdxl")
    assert part is not None
    assert part.name == SDXL_PATHS[path]
    assert split_words(path.replace(".", "_")) == path


STYLES = {
    "lora_unet_down_blocks_1_attentions_0_proj_in": "input_blocks.4.1.proj_in",
    "lycoris_down_blocks_1_attentions_0_proj_in": "input_blocks.4.1.proj_in",
    "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_out": (
        "input_blocks.4.1.transformer_blocks.0.attn1.to_out.0"
    ),
    "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q": (
        "input_blocks.4.1.transformer_blocks.0.attn1.to_q"
    ),
    "diffusion_model.double_blocks.3.img_attn.qkv": "double_blocks.3.img_attn.qkv",
    "lora_transformer_transformer_blocks_3_attn_to_q": "double_blocks.3.img_attn.qkv",
    "transformer.single_transformer_blocks.2.proj_mlp": "single_blocks.2.linear1",
    "single_transformer_blocks.2.proj_out": "single_blocks.2.linear2",
    "lora_unet_time_in_in_layer": "time_in.in_layer",
    "text_encoder_2.text_model.encoder.layers.4.mlp.fc1": "te2.text_model.encoder.layers.4.mlp.fc1",
    "lora_te1_encoder_layers_0_mlp_fc2": "te1.text_model.encoder.layers.0.mlp.fc2",
    "text_encoders.clip_g.transformer.text_model.encoder.layers.0.mlp.fc2": (
        "te2.text_model.encoder.layers.0.mlp.fc2"
    ),
}


@pytest.mark.parametrize("key", STYLES)
def test_other_programs_styles(key: str) -> None:
    parsed = parse_layer(key)
    assert parsed is not None
    assert parsed[0].name == STYLES[key]


@pytest.mark.parametrize(
    "key", ["base_model.model.x", "lora_te_text_model_encoder_layers_0_mlp_fc1", "blocks.0.attn"]
)
def test_unknown_styles(key: str) -> None:
    assert parse_layer(key) is None


def lora(outputs: int, inputs: int, rank: int, alpha: float | None, seed: int) -> LayerPatch:
    source = generator(seed)
    return LayerPatch(
        "lora",
        {
            "lora_down.weight": torch.randn(rank, inputs, generator=source),
            "lora_up.weight": torch.randn(outputs, rank, generator=source),
        },
        alpha,
    )


FUSED = {
    "double_blocks.1.img_attn.qkv": 3 * 24,
    "double_blocks.0.txt_attn.qkv": 3 * 24,
    "single_blocks.0.linear1": 7 * 24,
    "single_blocks.0.modulation.lin": 3 * 24,
    "final_layer.adaLN_modulation.1": 2 * 24,
}


@settings(max_examples=30, deadline=None)
@given(
    rank=st.integers(1, 9),
    alpha=st.one_of(st.none(), st.floats(0.01, 64.0)),
    name=st.sampled_from(list(FUSED)),
    seed=st.integers(0, 2**31),
)
def test_kohya_to_diffusers_and_back(rank: int, alpha: float | None, name: str, seed: int) -> None:
    patch = lora(FUSED[name], 24, rank, alpha, seed)
    diffusers = to_tensors({name: patch}, "diffusers", "flux")
    read, file_format, unknown = from_tensors(diffusers)
    assert (file_format, unknown, list(read)) == ("diffusers", [], [name])
    assert relative_difference(read[name], patch) < 1e-6
    assert read[name].rank == rank  # one down factor is shared: nothing grew
    again, _, _ = from_tensors(to_tensors(read, "kohya", "flux"))
    assert relative_difference(again[name], patch) < 1e-6


@settings(max_examples=30, deadline=None)
@given(
    ranks=st.lists(st.integers(1, 5), min_size=4, max_size=4),
    alphas=st.lists(st.floats(0.1, 16.0), min_size=4, max_size=4),
    present=st.sets(st.integers(0, 3), min_size=1),
    seed=st.integers(0, 2**31),
)
def test_split_parts_become_one_block_diagonal_layer(
    ranks: list[int], alphas: list[float], present: set[int], seed: int
) -> None:
    hidden, names = 6, ["attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"]
    rows = [hidden, hidden, hidden, 4 * hidden]
    tensors, dense = {}, []
    for index, name in enumerate(names):
        part = lora(rows[index], hidden, ranks[index], alphas[index], seed + index)
        if index not in present:
            dense.append(torch.zeros(rows[index], hidden))
            continue
        dense.append(delta(part))
        path = f"transformer.single_transformer_blocks.0.{name}"
        tensors[f"{path}.lora_A.weight"] = part.tensors["lora_down.weight"]
        tensors[f"{path}.lora_B.weight"] = part.tensors["lora_up.weight"]
        tensors[f"{path}.alpha"] = torch.tensor(alphas[index])
    fused = from_tensors(tensors)[0]["single_blocks.0.linear1"]
    torch.testing.assert_close(delta(fused), torch.cat(dense), rtol=1e-5, atol=1e-5)
    assert fused.rank == sum(ranks[index] for index in present)
    split = to_tensors({"single_blocks.0.linear1": fused}, "diffusers", "flux")
    again = from_tensors(split)[0]["single_blocks.0.linear1"]
    assert relative_difference(again, fused) < 1e-6


def test_alpha_of_three_equal_parts_is_three_times_as_large() -> None:
    tensors = {}
    for index, name in enumerate(("to_q", "to_k", "to_v")):
        part = lora(8, 8, 4, 2.0, index)
        path = f"transformer.transformer_blocks.0.attn.{name}"
        tensors[f"{path}.lora_A.weight"] = part.tensors["lora_down.weight"]
        tensors[f"{path}.lora_B.weight"] = part.tensors["lora_up.weight"]
        tensors[f"{path}.alpha"] = torch.tensor(2.0)
    fused = from_tensors(tensors)[0]["double_blocks.0.img_attn.qkv"]
    assert (fused.rank, fused.alpha) == (12, 6.0)
    assert fused.tensors["lora_up.weight"][8:16, :4].abs().sum() == 0  # k's rows, q's components


def test_text_encoders_in_diffusers_names() -> None:
    patch = lora(8, 8, 2, 1.0, 0)
    name = "te1.text_model.encoder.layers.0.self_attn.q_proj"
    tensors = to_tensors({name: patch}, "diffusers", "flux")
    key = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
    assert set(tensors) == {f"{key}.lora_A.weight", f"{key}.lora_B.weight"}
    assert relative_difference(from_tensors(tensors)[0][name], patch) < 1e-6


def test_diffusers_refuses_what_it_cannot_hold() -> None:
    patch = lora(8, 8, 2, 1.0, 0)
    with pytest.raises(ValueError, match="written for FLUX only"):
        to_tensors({"middle_block.1.proj_in": patch}, "diffusers", "sdxl")
    oft = LayerPatch("oft", {"oft_blocks": torch.zeros(1, 2, 2)}, 0.0)
    with pytest.raises(ValueError, match="holds plain LoRA only, and img_in is oft"):
        to_tensors({"img_in": oft}, "diffusers", "flux")


def test_incomplete_and_impossible_layers_are_named() -> None:
    down, up = torch.zeros(2, 4), torch.zeros(4, 3)
    with pytest.raises(ValueError, match=r"img_in lacks lora_down.weight and lora_up.weight"):
        from_tensors({"lora_unet_img_in.lora_down.weight": down})
    with pytest.raises(ValueError, match=r"img_in does not multiply: lora_up \(4, 3\)"):
        from_tensors(
            {"lora_unet_img_in.lora_down.weight": down, "lora_unet_img_in.lora_up.weight": up}
        )
    with pytest.raises(ValueError, match="butterfly OFT is not supported"):
        from_tensors({"lora_unet_img_in.oft_blocks": torch.zeros(2, 2, 2, 2)})
    twice = {
        f"{prefix}img_in.lora_{part}.weight": torch.ones(2, 2)
        for prefix in ("lora_unet_", "diffusion_model.")
        for part in ("down", "up")
    }
    with pytest.raises(ValueError, match=r"img_in is there twice.*as diffusion_model\.img_in"):
        from_tensors(twice)
    with pytest.raises(ValueError, match="has an alpha but no factors"):
        from_tensors({"lora_unet_img_in.alpha": torch.tensor(1.0)})


def test_tucker_core_is_multiplied_in() -> None:
    source = generator(1)
    core, up = torch.randn(3, 2, 3, 3, generator=source), torch.randn(5, 3, 1, 1, generator=source)
    down = torch.randn(2, 4, 1, 1, generator=source)
    name = kohya_name("input_blocks.3.0.op")
    tensors = {
        f"{name}.lora_mid.weight": core,
        f"{name}.lora_up.weight": up,
        f"{name}.lora_down.weight": down,
        f"{name}.alpha": torch.tensor(3.0),
    }
    patch = from_tensors(tensors)[0]["input_blocks.3.0.op"]
    expected = torch.einsum("mnkl,im,nj->ijkl", core, up.flatten(1), down.flatten(1))
    torch.testing.assert_close(delta(patch), expected)
