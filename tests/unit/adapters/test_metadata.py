"""Mirrors trustopt/adapters/metadata.py, training_record.py and inspection.py."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from trustopt.adapters import (
    TrainingRecord,
    build_metadata,
    inspect_lora,
    save_lora,
    select_layers,
)
from trustopt.config import AdapterConfig, JobConfig, ObjectiveConfig

# What sd-scripts writes for every run with one dataset, less what needs its own command line.
SD_SCRIPTS_KEYS = """
    ss_session_id ss_training_started_at ss_training_finished_at ss_output_name ss_learning_rate
    ss_text_encoder_lr ss_unet_lr ss_num_train_images ss_num_validation_images ss_num_reg_images
    ss_num_batches_per_epoch ss_num_epochs ss_epoch ss_steps ss_gradient_checkpointing
    ss_gradient_accumulation_steps ss_max_train_steps ss_lr_warmup_steps ss_lr_scheduler
    ss_network_module ss_network_dim ss_network_alpha ss_network_dropout ss_network_args
    ss_mixed_precision ss_full_fp16 ss_v2 ss_base_model_version ss_clip_skip ss_max_token_length
    ss_cache_latents ss_seed ss_lowram ss_noise_offset ss_multires_noise_iterations
    ss_multires_noise_discount ss_adaptive_noise_scale ss_zero_terminal_snr ss_training_comment
    ss_sd_scripts_commit_hash ss_optimizer ss_max_grad_norm ss_caption_dropout_rate
    ss_caption_dropout_every_n_epochs ss_caption_tag_dropout_rate ss_face_crop_aug_range
    ss_prior_loss_weight ss_min_snr_gamma ss_scale_weight_norms ss_ip_noise_gamma
    ss_debiased_estimation ss_noise_offset_random_strength ss_ip_noise_gamma_random_strength
    ss_loss_type ss_huber_schedule ss_huber_scale ss_huber_c ss_validation_split
    ss_tag_frequency ss_dataset_dirs ss_reg_dataset_dirs ss_bucket_info ss_batch_size_per_device
    ss_total_batch_size ss_resolution ss_color_aug ss_flip_aug ss_random_crop ss_shuffle_caption
    ss_enable_bucket ss_bucket_no_upscale ss_min_bucket_reso ss_max_bucket_reso ss_keep_tokens
    ss_sd_model_name ss_sd_model_hash ss_new_sd_model_hash ss_vae_name
""".split()  # noqa: SIM905
FLUX_KEYS = """
    ss_model_type ss_apply_t5_attn_mask ss_weighting_scheme ss_logit_mean ss_logit_std
    ss_mode_scale ss_guidance_scale ss_timestep_sampling ss_sigmoid_scale
    ss_model_prediction_type ss_discrete_flow_shift
""".split()  # noqa: SIM905


def record(**more: Any) -> TrainingRecord:
    values: dict[str, Any] = {
        "job": JobConfig(name="a girl", steps=300, lr=2e-4, batch_size=2, accumulation=3),
        "family": "sdxl",
        "base_model": "sd_xl_base_1.0.safetensors",
        "base_model_hash": "31e35c80fc4829d14f90153f4c74cd59c90b779f6afe05a74cd6120b893f7e5b",
        "base_model_legacy_hash": "be9edd61",
        "vae": "sdxl_vae.safetensors",
        "started_at": 1_700_000_000.5,
        "finished_at": 1_700_003_600.25,
        "steps": 300,
        "epoch": 10,
        "num_images": 60,
        "num_batches": 30,
        "tag_frequency": {"20_girl": {"red hair": 3, "smile": 2}},
        "folders": {"20_girl": (20, 3)},
        "buckets": {(1024, 1024): 40, (832, 1216): 20},
        "mean_aspect_error": 0.01,
        "trigger": "ohwx girl",
        "plan": {"steps": 300},
        "signals": {"loss": 0.1},
        "versions": {"trustopt": "0.1.0"},
        "workflow": {"nodes": []},
        "prompt": '{"1": {}}',
        "comment": "for aunt May",
    }
    return TrainingRecord(**{**values, **more})


def test_every_field_of_sd_scripts_is_there_and_all_are_strings() -> None:
    metadata = build_metadata(record())
    assert set(SD_SCRIPTS_KEYS) <= set(metadata)
    assert all(isinstance(value, str) for value in metadata.values())
    assert metadata["ss_training_comment"] == "for aunt May"
    assert metadata["ss_text_encoder_lr"] == "None"
    assert metadata["ss_flip_aug"] == "False"
    assert metadata["ss_resolution"] == "(1024, 1024)"
    assert metadata["ss_total_batch_size"] == "6"
    assert metadata["ss_min_snr_gamma"] == "5.0"
    assert metadata["ss_network_module"] == "networks.lora"
    assert json.loads(metadata["ss_tag_frequency"]) == {"20_girl": {"red hair": 3, "smile": 2}}
    assert json.loads(metadata["ss_dataset_dirs"]) == {"20_girl": {"n_repeats": 20, "img_count": 3}}
    assert json.loads(metadata["ss_bucket_info"]) == {
        "buckets": {
            "0": {"resolution": [832, 1216], "count": 20},
            "1": {"resolution": [1024, 1024], "count": 40},
        },
        "mean_img_ar_error": 0.01,
    }


def test_flux_has_its_own_fields() -> None:
    metadata = build_metadata(record(family="flux", prediction="flow", base_model="flux1-dev"))
    assert set(FLUX_KEYS) <= set(metadata)
    assert metadata["ss_base_model_version"] == "flux1"
    assert metadata["ss_network_module"] == "networks.lora_flux"
    assert metadata["ss_timestep_sampling"] == "flux_shift"
    assert metadata["ss_min_snr_gamma"] == "None"
    assert metadata["modelspec.architecture"] == "flux-1-dev/lora"
    assert "modelspec.prediction_type" not in metadata
    schnell = build_metadata(record(family="flux", prediction="flow", base_model="flux1-schnell"))
    assert schnell["modelspec.architecture"] == "flux-1-schnell/lora"
    assert not set(FLUX_KEYS) & set(build_metadata(record()))


def test_modelspec() -> None:
    metadata = build_metadata(record())
    spec = {k.removeprefix("modelspec."): v for k, v in metadata.items() if "modelspec" in k}
    assert spec == {
        "sai_model_spec": "1.0.1",
        "architecture": "stable-diffusion-xl-v1-base/lora",
        "implementation": "https://github.com/Stability-AI/generative-models",
        "title": "a girl",
        "resolution": "1024x1024",
        "date": "2023-11-14T23:13:20+00:00",
        "prediction_type": "epsilon",
        "trigger_phrase": "ohwx girl",
    }


@pytest.mark.parametrize(
    ("algorithm", "module", "args"),
    [
        ("lora", "networks.lora", {}),
        ("locon", "networks.lora", {"conv_dim": "8", "conv_alpha": "4.0"}),
        ("loha", "lycoris.kohya", {"algo": "loha"}),
        ("lokr", "lycoris.kohya", {"algo": "lokr"}),
        ("oft", "lycoris.kohya", {"algo": "diag-oft"}),
        ("rslora", "lycoris.kohya", {"algo": "lora", "rs_lora": "True"}),
        ("dora", "lycoris.kohya", {"algo": "lora", "dora_wd": "True", "wd_on_output": "False"}),
    ],
)
def test_the_network_is_named_as_the_field_does(algorithm: Any, module: str, args: dict) -> None:
    job = JobConfig(name="a", adapter=AdapterConfig(algorithm=algorithm))
    metadata = build_metadata(record(job=job))
    assert metadata["ss_network_module"] == module
    assert json.loads(metadata["ss_network_args"]) == args


def test_our_own_fields_restore_the_job() -> None:
    given = record()
    metadata = build_metadata(given)
    assert JobConfig.from_dict(json.loads(metadata["trustopt.job"])) == given.job
    assert json.loads(metadata["trustopt.signals"]) == {"loss": 0.1}
    assert json.loads(metadata["workflow"]) == {"nodes": []}
    assert metadata["prompt"] == '{"1": {}}'


def test_private_leaves_out_captions_folders_workflow_and_comment() -> None:
    everything = " ".join(build_metadata(record(), private=True).values())
    for secret in ("red hair", "20_girl", "nodes", "aunt May"):
        assert secret not in everything, secret
    metadata = build_metadata(record(), private=True)
    assert {"workflow", "prompt"}.isdisjoint(metadata)
    assert json.loads(metadata["ss_dataset_dirs"]) == {"0": {"n_repeats": 20, "img_count": 3}}
    assert metadata["modelspec.trigger_phrase"] == "ohwx girl"  # what the user gave to be known


def test_without_times_equal_runs_have_equal_headers() -> None:
    timeless = {"started_at": None, "finished_at": None}
    first, second = build_metadata(record(**timeless)), build_metadata(record(**timeless))
    assert list(first.items()) == list(second.items())
    assert not any("_at" in key.split("training")[-1] for key in first if "training" in key)
    assert "modelspec.date" not in first


def test_weighting_is_told_as_it_was() -> None:
    none = JobConfig(name="a", objective=ObjectiveConfig(weighting="none"))
    assert build_metadata(record(job=none))["ss_min_snr_gamma"] == "None"
    assert build_metadata(record(zero_terminal_snr=True))["ss_min_snr_gamma"] == "None"
    debiased = JobConfig(name="a", objective=ObjectiveConfig(weighting="debiased"))
    assert build_metadata(record(job=debiased))["ss_debiased_estimation"] == "True"


def test_inspect_tells_what_is_in_a_file(
    tiny_sdxl_layers: dict, trained: Any, tmp_path: Path
) -> None:
    config = AdapterConfig(algorithm="locon", rank=4, conv_rank=2)
    layers = select_layers(tiny_sdxl_layers, config, "sdxl")
    path = save_lora(
        tmp_path / "girl.safetensors",
        trained(layers, config).patches(),
        family="sdxl",
        metadata=build_metadata(record()),
    )
    report = inspect_lora(path)
    for part in (
        "girl.safetensors",
        "family     sdxl",
        "format     kohya",
        "algorithm  lora",
        "rank       4 (",
        "float16",
        f"layers ({len(layers)})",
        "transformer_blocks.attn1.to_q",
        "middle_block ",
        "red hair (3), smile (2)",
        "sd_xl_base_1.0.safetensors",
        "ohwx girl",
        "AutoV3 hash",
    ):
        assert part in report, part


def test_inspect_lists_unknown_keys_and_survives_odd_metadata(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tensors = {
        "lora_unet_img_in.lora_down.weight": torch.ones(1, 4),
        "lora_unet_img_in.lora_up.weight": torch.zeros(4, 1),
        "somewhere.else": torch.ones(1),
    }
    save_file(tensors, path, {"ss_tag_frequency": "[1, 2]", "ss_steps": "7"})
    report = inspect_lora(path)
    assert "unknown keys (1):" in report
    assert "somewhere.else" in report
    assert "steps         7" in report
