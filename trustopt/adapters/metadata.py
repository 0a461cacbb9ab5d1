"""The header of a LoRA file: what other programs show, and what was trained how.

Three vocabularies: ``ss_*`` (sd-scripts', read by A1111, Forge, Civitai and LoRA managers),
``modelspec.*`` (Stability's Model Spec 1.0.1), and ``trustopt.*`` (our plan, optimizer, signals,
versions). All values are strings; Python's None and booleans are spelled as sd-scripts does.

Source:
    kohya-ss/sd-scripts library/train_util.py, library/sai_model_spec.py (names and spelling).
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from ..config import JobConfig
from ..host import Family
from .training_record import TrainingRecord

Metadata = dict[str, str]


def build_metadata(record: TrainingRecord, *, private: bool = False) -> Metadata:
    """Return the header of a file, in a fixed order; ``save_lora`` adds the ``sshs_*`` hashes.

    Args:
        record: The run.
        private: Leave out what tells about the pictures and the user's graph: tags, folder
            names, the workflow and prompt, the comment.
    """
    job = record.job
    return {
        **_run(record),
        **_network(job, record.family),
        **_objective(record),
        **_dataset(record, private),
        **_base_model(record),
        **(_flux(job) if record.family == "flux" else {}),
        **_modelspec(record),
        **_ours(record),
        **({} if private else _graph(record)),
    }


def _run(record: TrainingRecord) -> Metadata:
    job = record.job
    session = hashlib.sha256(json.dumps(job.to_dict(), sort_keys=True).encode()).digest()
    times = {"started": record.started_at, "finished": record.finished_at}
    lr = job.lr if job.optimizer.lr is None else job.optimizer.lr
    encoder_lr = lr if job.adapter.train_text_encoders else None
    return _spelled(
        {
            # Drawn from the job instead of at random: the same job writes the same file.
            "ss_session_id": int.from_bytes(session[:4], "big"),
            **{f"ss_training_{k}_at": v for k, v in times.items() if v is not None},
            "ss_output_name": job.name,
            "ss_learning_rate": lr,
            "ss_text_encoder_lr": encoder_lr,
            "ss_unet_lr": lr,
            "ss_num_epochs": record.epoch,
            "ss_epoch": record.epoch,
            "ss_steps": record.steps,
            "ss_max_train_steps": job.steps,
            "ss_gradient_checkpointing": record.checkpointing,
            "ss_gradient_accumulation_steps": job.accumulation,
            "ss_lr_warmup_steps": job.warmup_steps,
            "ss_lr_scheduler": job.scheduler,
            "ss_optimizer": record.optimizer or job.optimizer.name,
            "ss_max_grad_norm": job.max_grad_norm,
            "ss_mixed_precision": record.mixed_precision,
            "ss_full_fp16": False,
            "ss_seed": job.seed,
            "ss_lowram": False,
            "ss_sd_scripts_commit_hash": None,
        }
    )


def _network(job: JobConfig, family: Family) -> Metadata:
    adapter = job.adapter
    is_plain = adapter.algorithm in ("lora", "locon")
    plain_module = "networks.lora" if family == "sdxl" else "networks.lora_flux"
    args: dict[str, str] = {} if is_plain else {"algo": _LYCORIS.get(adapter.algorithm, "lora")}
    args |= {
        key: str(value)
        for key, value in {
            "conv_dim": adapter.conv_rank if adapter.algorithm == "locon" else None,
            "conv_alpha": adapter.conv_alpha if adapter.algorithm == "locon" else None,
            "rank_dropout": adapter.rank_dropout or None,
            "module_dropout": adapter.module_dropout or None,
            "dora_wd": True if adapter.algorithm == "dora" else None,
            "wd_on_output": False if adapter.algorithm == "dora" else None,
            "rs_lora": True if adapter.algorithm == "rslora" else None,
        }.items()
        if value is not None
    }
    return _spelled(
        {
            "ss_network_module": plain_module if is_plain else "lycoris.kohya",
            "ss_network_dim": adapter.rank,
            "ss_network_alpha": adapter.alpha,
            "ss_network_dropout": adapter.dropout or None,
            "ss_network_args": json.dumps(args),
            "ss_scale_weight_norms": adapter.max_norm or None,
        }
    )


_LYCORIS = {"loha": "loha", "lokr": "lokr", "oft": "diag-oft"}


def _objective(record: TrainingRecord) -> Metadata:
    objective, data = record.job.objective, record.job.data
    weighting = objective.weighting
    if weighting == "auto" and record.prediction != "flow" and not record.zero_terminal_snr:
        weighting = "min-snr"
    return _spelled(
        {
            "ss_noise_offset": objective.noise_offset or None,
            "ss_multires_noise_iterations": objective.pyramid_levels or None,
            "ss_multires_noise_discount": objective.pyramid_discount,
            "ss_adaptive_noise_scale": None,
            "ss_zero_terminal_snr": record.zero_terminal_snr,
            "ss_min_snr_gamma": objective.min_snr_gamma if weighting == "min-snr" else None,
            "ss_debiased_estimation": weighting == "debiased",
            "ss_ip_noise_gamma": objective.input_perturbation or None,
            "ss_noise_offset_random_strength": False,
            "ss_ip_noise_gamma_random_strength": False,
            "ss_loss_type": {"mse": "l2", "mae": "l1"}.get(objective.loss, objective.loss),
            "ss_huber_schedule": "constant",
            "ss_huber_scale": 1.0,
            "ss_huber_c": objective.huber_c,
            "ss_prior_loss_weight": data.regularisation_weight,
            "ss_caption_dropout_rate": data.caption_dropout,
            "ss_caption_dropout_every_n_epochs": 0,
            "ss_caption_tag_dropout_rate": data.tag_dropout,
            "ss_face_crop_aug_range": None,
            "ss_clip_skip": None,
            "ss_max_token_length": 225,
        }
    )


def _dataset(record: TrainingRecord, private: bool) -> Metadata:
    job, data = record.job, record.job.data
    sides = [side for size in record.buckets for side in size] or [data.resolution]
    buckets = {
        str(index): {"resolution": list(size), "count": count}
        for index, (size, count) in enumerate(sorted(record.buckets.items()))
    }
    folders = {
        (str(index) if private else folder): {"n_repeats": repeats, "img_count": count}
        for index, (folder, (repeats, count)) in enumerate(record.folders.items())
    }
    return _spelled(
        {
            "ss_num_train_images": record.num_images,
            "ss_num_validation_images": record.num_validation_images,
            "ss_num_reg_images": 0,
            "ss_num_batches_per_epoch": record.num_batches,
            "ss_validation_split": data.validation_fraction,
            "ss_batch_size_per_device": job.batch_size,
            "ss_total_batch_size": job.batch_size * job.accumulation * record.processes,
            "ss_resolution": f"({data.resolution}, {data.resolution})",
            "ss_enable_bucket": True,
            "ss_bucket_no_upscale": not data.upscale,
            "ss_min_bucket_reso": min(sides),
            "ss_max_bucket_reso": max(sides),
            "ss_color_aug": False,
            "ss_flip_aug": data.flip,
            "ss_random_crop": data.random_crop,
            "ss_shuffle_caption": data.shuffle_tags,
            "ss_keep_tokens": data.keep_tokens,
            "ss_cache_latents": True,
            "ss_bucket_info": json.dumps(
                {"buckets": buckets, "mean_img_ar_error": record.mean_aspect_error}
            ),
            "ss_dataset_dirs": json.dumps(folders, ensure_ascii=False),
            "ss_reg_dataset_dirs": "{}",
            "ss_tag_frequency": "{}" if private else _json(record.tag_frequency),
            "ss_training_comment": None if private else record.comment or None,
        }
    )


def _base_model(record: TrainingRecord) -> Metadata:
    version = {"sdxl": "sdxl_base_v1-0", "flux": "flux1"}[record.family]
    optional = {
        "ss_sd_model_hash": record.base_model_legacy_hash,
        "ss_new_sd_model_hash": record.base_model_hash,
        "ss_vae_name": record.vae,
    }
    return _spelled(
        {
            "ss_v2": False,
            "ss_base_model_version": version,
            "ss_sd_model_name": record.base_model,
            **{key: value for key, value in optional.items() if value},
        }
    )


def _flux(job: JobConfig) -> Metadata:
    objective = job.objective
    timesteps = "flux-shift" if objective.timesteps == "auto" else objective.timesteps
    return _spelled(
        {
            "ss_model_type": "flux",
            "ss_apply_t5_attn_mask": False,
            "ss_weighting_scheme": "none",
            "ss_logit_mean": objective.logit_mean,
            "ss_logit_std": objective.logit_std,
            "ss_mode_scale": 1.29,
            "ss_guidance_scale": objective.guidance,
            "ss_timestep_sampling": timesteps.replace("-", "_").replace("shifted", "shift"),
            "ss_sigmoid_scale": 1.0,
            "ss_model_prediction_type": "raw",
            "ss_discrete_flow_shift": objective.shift,
        }
    )


def _modelspec(record: TrainingRecord) -> Metadata:
    family, resolution = record.family, record.job.data.resolution
    architecture, repository = {
        "sdxl": (
            "stable-diffusion-xl-v1-base",
            "https://github.com/Stability-AI/generative-models",
        ),
        "flux": ("flux-1-dev", "https://github.com/black-forest-labs/flux"),
    }[family]
    if family == "flux" and "schnell" in record.base_model.lower():
        architecture = "flux-1-schnell"
    fields = {
        "sai_model_spec": "1.0.1",
        "architecture": f"{architecture}/lora",
        "implementation": repository,
        "title": record.title or record.job.name,
        "resolution": f"{resolution}x{resolution}",
        "date": _date(record.finished_at),
        "prediction_type": {"eps": "epsilon", "v": "v"}.get(record.prediction, ""),
        "author": record.author,
        "description": record.description,
        "license": record.license,
        "trigger_phrase": record.trigger,
    }
    return {f"modelspec.{key}": value for key, value in fields.items() if value}


def _ours(record: TrainingRecord) -> Metadata:
    job = record.job.to_dict()
    return {
        "trustopt.job": _json(job),
        "trustopt.plan": _json(record.plan),
        "trustopt.optimizer": _json(job["optimizer"]),
        "trustopt.signals": _json(record.signals),
        "trustopt.versions": _json(record.versions),
    }


def _graph(record: TrainingRecord) -> Metadata:
    graph = {"workflow": record.workflow, "prompt": record.prompt}
    return {
        key: value if isinstance(value, str) else _json(value)
        for key, value in graph.items()
        if value is not None
    }


def _date(timestamp: float | None) -> str:
    if timestamp is None:
        return ""
    return datetime.fromtimestamp(int(timestamp), timezone.utc).isoformat()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _spelled(values: Mapping[str, Any]) -> Metadata:
    return {key: str(value) for key, value in values.items()}
