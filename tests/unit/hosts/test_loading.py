"""Checkpoints and folders: what loads is the model that was saved, and what cannot says why."""

import json

import pytest
import torch
from safetensors.torch import save_file

from trustopt.hosts.layouts.family import FluxModel
from trustopt.hosts.layouts.flux import FluxLayout
from trustopt.hosts.layouts.text import CLIP_L, T5_XXL
from trustopt.hosts.loading import _with_t5_tokens, load_checkpoint, load_tiny
from trustopt.hosts.noise_levels import sdxl_sigmas
from trustopt.hosts.tiny.weights import tiny_state_dict
from trustopt.hosts.tokenizers import find_clip_tokenizer, find_t5_tokenizer


def prefixed(weights, prefix):
    return {prefix + name: tensor.contiguous().clone() for name, tensor in weights.items()}


def to_open_clip(weights):
    """Return CLIP-G as SDXL's files hold it: query, key and value in one, other names."""
    renamed = {
        "token_embedding.weight": weights["text_model.embeddings.token_embedding.weight"],
        "positional_embedding": weights["text_model.embeddings.position_embedding.weight"],
        "text_projection": weights["text_projection.weight"].T,
        "logit_scale": torch.tensor(4.6),
    }
    for kind in ("weight", "bias"):
        renamed[f"ln_final.{kind}"] = weights[f"text_model.final_layer_norm.{kind}"]
        for index in range(3):
            ours, theirs = f"text_model.encoder.layers.{index}", f"transformer.resblocks.{index}"
            parts = [weights[f"{ours}.self_attn.{p}_proj.{kind}"] for p in "qkv"]
            renamed[f"{theirs}.attn.in_proj_{kind}"] = torch.cat(parts)
            renamed[f"{theirs}.attn.out_proj.{kind}"] = weights[f"{ours}.self_attn.out_proj.{kind}"]
            for a, b in (
                ("layer_norm1", "ln_1"),
                ("layer_norm2", "ln_2"),
                ("mlp.fc1", "mlp.c_fc"),
                ("mlp.fc2", "mlp.c_proj"),
            ):
                renamed[f"{theirs}.{b}.{kind}"] = weights[f"{ours}.{a}.{kind}"]
    return renamed


def distinct(weights):
    """Return the tiny weights with no two tensors alike, so that a mix-up shows."""
    generator = torch.Generator().manual_seed(0)
    for part in weights.values():
        for name, tensor in part.items():
            part[name] = tensor + 0.02 * torch.randn(tensor.shape, generator=generator)
    return weights


@pytest.fixture(scope="module")
def sdxl_parts():
    return distinct(tiny_state_dict("sdxl"))


@pytest.fixture(scope="module")
def flux_parts():
    return distinct(tiny_state_dict("flux"))


@pytest.fixture(scope="module")
def hosts(sdxl_parts, flux_parts):
    """Return hosts of these weights, made without a file."""
    from trustopt.hosts import loading
    from trustopt.hosts.modules import build_modules
    from trustopt.hosts.tiny.specs import spec

    made = {}
    for family, parts in (("sdxl", sdxl_parts), ("flux", flux_parts)):
        modules = build_modules(spec(family), parts, torch.float32)
        made[family] = loading._host(spec(family), modules, {}, "made", "cpu", None)
    return made


def sdxl_file(parts, **flags):
    return {
        **prefixed(parts["unet"], "model.diffusion_model."),
        **prefixed(parts["vae"], "first_stage_model."),
        **prefixed(parts["clip_l"], "conditioner.embedders.0.transformer."),
        **prefixed(to_open_clip(parts["clip_g"]), "conditioner.embedders.1.model."),
        **flags,
    }


def modules_of(host):
    return [host.network, host.vae, *host.text.models.values()]


def assert_same_model(loaded, made, make_batch):
    """Compare all weights bit for bit, and what comes out of them.

    The same numbers at another place in memory may take another path through a matrix product.
    """
    for ours, theirs in zip(modules_of(loaded), modules_of(made), strict=True):
        ours, theirs = ours.state_dict(), theirs.state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    batch = make_batch(made)
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    ours, theirs = loaded.encode_images(pixels).mean, made.encode_images(pixels).mean
    prompt, expected = (h.encode_prompts(["a red cat"])[0] for h in (loaded, made))
    for actual, wanted in (
        (batch.run(loaded), batch.run(made)),
        (ours, theirs),
        (loaded.decode_latents(theirs), made.decode_latents(theirs)),
        (prompt["context"], expected["context"]),
        (prompt["pooled"], expected["pooled"]),
    ):
        torch.testing.assert_close(actual, wanted, rtol=1e-5, atol=1e-5)


def test_an_sdxl_file_is_the_model_saved_in_it(sdxl_parts, hosts, make_batch, tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(sdxl_file(sdxl_parts), path)
    state = torch.get_rng_state()
    loaded = load_checkpoint(path, dtype=torch.float32)
    assert torch.equal(torch.get_rng_state(), state)
    assert (loaded.family, loaded.prediction) == ("sdxl", "eps")
    assert loaded.model_name == "model.safetensors"
    assert_same_model(loaded, hosts["sdxl"], make_batch)


def test_v_prediction_is_read_from_the_file(sdxl_parts, tmp_path):
    path = tmp_path / "v.safetensors"
    save_file(sdxl_file(sdxl_parts, v_pred=torch.zeros(1), ztsnr=torch.zeros(1)), path)
    loaded = load_checkpoint(path, dtype=torch.float32)
    assert loaded.prediction == "v"
    assert torch.equal(loaded.sigmas, sdxl_sigmas(zero_terminal_snr=True))


@pytest.mark.parametrize("form", ["parts", "whole"])
def test_flux_files_are_the_model_saved_in_them(flux_parts, hosts, make_batch, tmp_path, form):
    if form == "parts":
        files = {}
        for part, weights in flux_parts.items():
            files[part] = tmp_path / f"{part}.safetensors"
            save_file(prefixed(weights, ""), files[part])
        path = files.pop("unet")
        loaded = load_checkpoint(path, dtype=torch.float32, files=list(files.values()))
    else:
        path = tmp_path / "whole.safetensors"
        unet = {
            name.replace("_norm.scale", "_norm.weight"): t for name, t in flux_parts["unet"].items()
        }
        save_file(
            {
                **prefixed(unet, "model.diffusion_model."),
                **prefixed(flux_parts["vae"], "vae."),
                **prefixed(flux_parts["clip_l"], "text_encoders.clip_l.transformer."),
                **prefixed(flux_parts["t5xxl"], "text_encoders.t5xxl.transformer."),
            },
            path,
        )
        loaded = load_checkpoint(path, dtype=torch.float32)
    assert (loaded.family, loaded.prediction, loaded.flow_shift) == ("flux", "flow", 1.15)
    assert_same_model(loaded, hosts["flux"], make_batch)


FOLDERS = {
    "sdxl": (
        "StableDiffusionXLPipeline",
        "unet",
        ("te1", "text_encoder"),
        ("te2", "text_encoder_2"),
    ),
    "flux": ("FluxPipeline", "transformer", ("te1", "text_encoder"), ("te2", "text_encoder_2")),
}


def save_folder(host, folder):
    """Save a host the way diffusers and transformers save a pipeline's parts."""
    kind, network, *texts = FOLDERS[host.family]
    host.network.save_pretrained(folder / network)
    host.vae.save_pretrained(folder / "vae")
    for key, place in texts:
        host.text.models[key].save_pretrained(folder / place)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    return folder


@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_a_diffusers_folder_is_the_model_saved_in_it(hosts, make_batch, tmp_path, family):
    made = hosts[family]
    state = torch.get_rng_state()
    loaded = load_checkpoint(save_folder(made, tmp_path), dtype=torch.float32)
    assert torch.equal(torch.get_rng_state(), state)
    assert loaded.family == family
    if family == "flux":
        assert len(loaded.encode_prompts(["cat"])[0]["context"]) == 512
        loaded = load_checkpoint(tmp_path, dtype=torch.float32, t5_tokens=64)
    assert_same_model(loaded, made, make_batch)


def test_a_folders_scheduler_says_how_the_model_predicts(hosts, tmp_path):
    folder = save_folder(hosts["sdxl"], tmp_path)
    (folder / "scheduler").mkdir()
    schedule = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(schedule))
    loaded = load_checkpoint(folder, dtype=torch.float32)
    assert loaded.prediction == "v"
    assert loaded.sigmas[-1] > 4000

    schedule["prediction_type"] = "sample"
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(schedule))
    with pytest.raises(ValueError, match="predicts 'sample'; only epsilon and v_prediction"):
        load_checkpoint(folder)


def test_a_folder_of_parts_in_several_files(hosts, make_batch, tmp_path):
    folder = save_folder(hosts["sdxl"], tmp_path)
    for file in (folder / "unet").glob("*.safetensors"):
        file.unlink()
    hosts["sdxl"].network.save_pretrained(folder / "unet", max_shard_size="6MB")
    assert len(list((folder / "unet").glob("*.safetensors"))) > 1
    text = folder / "text_encoder"
    (text / "model.safetensors").rename(text / "model.fp16.safetensors")
    assert_same_model(load_checkpoint(folder, dtype=torch.float32), hosts["sdxl"], make_batch)


def refused(path, match, **options):
    with pytest.raises(ValueError, match=match) as caught:
        load_checkpoint(path, **options)
    first = str(caught.value).splitlines()[0]
    assert ":" in first, "the first line says what to do"


def test_what_is_no_checkpoint_is_refused(tmp_path):
    refused(tmp_path / "none.safetensors", r"there is no file .*none\.safetensors: give the path")
    pickled = tmp_path / "old.ckpt"
    pickled.write_bytes(b"x")
    refused(pickled, r"old\.ckpt is not a \.safetensors file: .* convert it")
    cut = tmp_path / "cut.safetensors"
    save_file({"a": torch.zeros(100)}, cut)
    cut.write_bytes(cut.read_bytes()[:-50])
    refused(cut, r"cut\.safetensors cannot be read .*: it is cut off or damaged")
    refused(tmp_path, r"is no diffusers model: it holds no model_index\.json")


@pytest.mark.parametrize(
    ("name", "looks_like"),
    [
        ("lora_unet_input_blocks_1.lora_up.weight", "a LoRA, not a base model"),
        ("transformer.x.lora_A.weight", "a LoRA, not a base model"),
        ("model.diffusion_model.joint_blocks.0.x.weight", "Stable Diffusion 3"),
        ("cond_stage_model.transformer.text_model.x", "Stable Diffusion 1"),
        ("double_stream_modulation_img.lin.weight", "FLUX.2"),
        ("model.diffusion_model.label_emb.0.0.weight", "an SDXL variant"),
        ("anything", "a file without a diffusion network"),
        ("model.diffusion_model.anything", "another model"),
    ],
)
def test_another_model_is_told_by_name(tmp_path, name, looks_like):
    path = tmp_path / "other.safetensors"
    save_file({name: torch.zeros(1)}, path)
    refused(path, f"other.safetensors is neither an SDXL nor a FLUX.1 checkpoint; .* {looks_like}")


def test_a_flux_with_other_inputs_is_told(flux_parts, tmp_path):
    weights = prefixed(flux_parts["unet"], "")
    weights["img_in.weight"] = torch.zeros(128, 384)
    save_file(weights, tmp_path / "fill.safetensors")
    refused(tmp_path / "fill.safetensors", "a FLUX variant with other inputs")


def test_quantised_files_are_refused(flux_parts, tmp_path):
    weights = prefixed(flux_parts["unet"], "") | {"img_in.scale_weight": torch.ones(1)}
    save_file(weights, tmp_path / "fp8.safetensors")
    refused(tmp_path / "fp8.safetensors", "quantised with scales, .*: give a bf16 or fp16 file")


def test_missing_and_wrong_parts_are_named(flux_parts, sdxl_parts, tmp_path):
    flux, vae = tmp_path / "flux.safetensors", tmp_path / "vae.safetensors"
    save_file(prefixed(flux_parts["unet"], ""), flux)
    save_file(prefixed(sdxl_parts["vae"], ""), vae)
    refused(flux, "holds no T5 text encoder and no VAE and no CLIP-L text encoder: .*files=")
    refused(
        flux, "the VAE for flux.safetensors is not the one", files=_with(vae, tmp_path, flux_parts)
    )

    nothing = tmp_path / "nothing.safetensors"
    save_file({"x": torch.zeros(1)}, nothing)
    refused(flux, "nothing.safetensors holds no VAE and no text encoder", files=[nothing])


def _with(vae, folder, parts):
    """Return files of every part, with another model's VAE."""
    files = [vae]
    for part in ("clip_l", "t5xxl"):
        files.append(folder / f"{part}.safetensors")
        save_file(prefixed(parts[part], ""), files[-1])
    return files


def test_folders_that_lack_something_are_refused(hosts, tmp_path):
    folder = save_folder(hosts["sdxl"], tmp_path)
    refused(folder, "takes no further files", files=[folder / "x.safetensors"])

    config = json.loads((folder / "unet" / "config.json").read_text())
    (folder / "unet" / "config.json").write_text(
        json.dumps(config | {"addition_embed_type": "text"})
    )
    refused(folder, r"a variant of SDXL .* \(other addition_embed_type\)")
    (folder / "unet" / "config.json").write_text(json.dumps(config | {"layers_per_block": 1}))
    refused(folder, r"a variant of SDXL .* \(other modules, such as down_blocks\.0\.resnets\.1")
    del config["projection_class_embeddings_input_dim"]
    (folder / "unet" / "config.json").write_text(json.dumps(config))
    refused(folder, r"a variant of SDXL .* \('projection_class_embeddings_input_dim'\)")

    for file in (folder / "vae").glob("*.safetensors"):
        file.unlink()
    refused(folder, r"vae holds no \.safetensors file")
    (folder / "vae" / "config.json").unlink()
    refused(folder, "lacks vae: copy or download the whole")
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    refused(folder, "neither SDXL nor FLUX.1 but a StableDiffusionPipeline")
    (folder / "model_index.json").write_text("[]")
    refused(folder, "is no JSON object")
    (folder / "model_index.json").write_text("{")
    refused(folder, "cannot be read")


def test_a_folder_of_a_flux_with_other_inputs_is_refused(hosts, tmp_path):
    folder = save_folder(hosts["flux"], tmp_path)
    config = json.loads((folder / "transformer" / "config.json").read_text())
    (folder / "transformer" / "config.json").write_text(json.dumps(config | {"in_channels": 384}))
    refused(folder, r"a variant of FLUX\.1 .* \(384 instead of 64 inputs\)")


@pytest.mark.parametrize(("guidance", "expected"), [(True, 512), (False, 256)])
def test_the_length_of_flux_prompts_is_the_models_own(guidance, expected):
    model = FluxModel(unet=FluxLayout(guidance=guidance))
    assert _with_t5_tokens(model, None).t5xxl.tokens == expected
    assert _with_t5_tokens(model, 128).t5xxl.tokens == 128
    with pytest.raises(ValueError, match="t5_tokens must be at least 1, got 0"):
        _with_t5_tokens(model, 0)


def test_damaged_weights_are_told(hosts, tmp_path):
    folder = save_folder(hosts["sdxl"], tmp_path)
    save_file({"x": torch.zeros(1)}, folder / "vae" / "diffusion_pytorch_model.safetensors")
    refused(folder, r"the weights of the AutoencoderKL lack \d+, decoder")


def test_the_tokenizers_of_another_program_are_found(tmp_path):
    place = tmp_path / "comfy" / "sd1_tokenizer"
    place.mkdir(parents=True)
    words = {"<|startoftext|>": 49406, "<|endoftext|>": 49407, "cat</w>": 0, "a</w>": 1}
    words |= {"c": 2, "a": 3, "t</w>": 4, "ca": 5}
    filling = {f"w{n}": n for n in range(6, 49406)}
    (place / "vocab.json").write_text(json.dumps(words | filling))
    (place / "merges.txt").write_text("#version: 0.2\nc a\nca t</w>\n")
    (place / "tokenizer_config.json").write_text('{"tokenizer_class": "CLIPTokenizer"}')
    tokenize = find_clip_tokenizer(CLIP_L, tmp_path)
    assert tokenize("A cat") == [1, 0]


def test_a_tokenizer_without_words_is_none(tmp_path):
    (tmp_path / "tokenizer").mkdir()
    with pytest.raises(ValueError, match=r"no CLIP tokenizer in .*: single-file checkpoints"):
        find_clip_tokenizer(CLIP_L, tmp_path)
    (tmp_path / "tokenizer_2").mkdir()
    with pytest.raises(ValueError, match="no T5 tokenizer in"):
        find_t5_tokenizer(T5_XXL, tmp_path)


def test_tiny_models_are_named():
    assert load_tiny("flux").model_name == "tiny-flux"
