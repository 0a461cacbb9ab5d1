"""Mirrors trustopt/cli/job_writing.py: what is written is the same run when it is read."""

from dataclasses import replace

import pytest

from trustopt.cli.job_config import job_config
from trustopt.cli.job_file import read_job_file
from trustopt.cli.job_writing import WrittenJob, write_job
from trustopt.config import AdapterConfig, OptimizerConfig
from trustopt.data import scan_folder
from trustopt.optim import OPTIMIZERS
from trustopt.plan import FAMILIES, PURPOSES
from trustopt.train.plan_images import plan_images
from trustopt.train.plan_job import data_of, job_from_plan, objective_of

MODEL = {"path": "tiny", "family": "sdxl"}


@pytest.fixture
def images(job_file):
    return scan_folder(job_file.parent / "pictures")


@pytest.fixture
def again(job_file, images):
    """Return what writes a job, and returns the settings of the file read anew."""

    def write(config, plan, **tables):
        job = WrittenJob(
            config=config,
            plan=plan,
            model=MODEL | {"family": plan.family},
            images={"folder": "pictures"},
            **tables,
        )
        path = job_file.with_name("written.toml")
        write_job(job, path, images)
        file = read_job_file(path)
        read_plan = plan_images(
            images, family=plan.family, purpose=file.purpose, overrides=file.plan
        )
        return job_config(file, read_plan)

    return write


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("purpose", PURPOSES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_plan_of_every_optimizer_is_read_as_it_was(
    again, images, family, purpose, optimizer
) -> None:
    plan = plan_images(images, family=family, purpose=purpose)
    config = job_from_plan(plan, OptimizerConfig(name=optimizer), name="a_job", seed=3)
    assert again(config, plan) == config


@pytest.mark.parametrize("gamma", [0.0, 5.0])
@pytest.mark.parametrize(
    "wishes",
    [
        {},
        {"weighting": "none"},
        {"weighting": "min-snr"},
        {"weighting": "min-snr", "min_snr_gamma": 2.0},
        {"weighting": "debiased", "loss": "huber", "huber_c": 0.2, "guidance": 3.5},
        {"timesteps": "logit-normal", "logit_mean": -0.5, "stratified": False},
    ],
)
def test_every_weighting_is_read_as_it_was(again, images, gamma, wishes) -> None:
    plan = plan_images(
        images, family="sdxl", purpose="style", overrides={"min_snr_gamma": gamma, "steps": 50}
    )
    objective = replace(objective_of(plan), **wishes)
    config = job_from_plan(plan, OptimizerConfig(name="adamw"), name="a_job", objective=objective)
    read = again(config, plan)
    # A gamma that is off is not used, and the plan's 0 stands for it.
    assert replace(read, objective=config.objective) == config
    assert read.objective.weighting == config.objective.weighting
    if config.objective.weighting != "none":
        assert read.objective == config.objective


def test_what_nodes_set_is_read_as_it_was(again, images) -> None:
    plan = plan_images(images, family="sdxl", purpose="concept")
    adapter = AdapterConfig(
        algorithm="lokr",
        rank=12,
        alpha=3.0,
        targets="full",
        regex=r"attn2\.to_(k|v)",
        ranks={r"down.*\"odd\"": 4},
        alphas={"x": 0.5},
        lr_scales={"input_blocks": 0.5},
        train_text_encoders=True,
        lora_plus_ratio=16.0,
    )
    data = replace(
        data_of(plan), extra_resolutions=(512, 768), class_word="猫", shuffle_tags=True, flip=True
    )
    config = job_from_plan(
        plan,
        OptimizerConfig(name="autotrustgo", lr=3e-4, options={"trust_level": 0.31}),
        name="名前 with space",
        seed=2**53 - 1,
        adapter=adapter,
        data=data,
        checkpointing="off",
        save_dtype="bf16",
        save_every=7,
        sample_every=9,
        keep_last=9,
        max_grad_norm=0.0,
        ema_decay=0.99,
        validate_every=5,
    )
    assert again(config, plan, samples={"prompts": ['a "b"\n', "c"], "guidance": 4.5}) == config


def test_a_plan_for_other_pictures_stays_as_it_is(again, images) -> None:
    plan = plan_images(images, family="flux", purpose="style")
    other = replace(plan, steps=plan.steps * 3, lr=plan.lr / 2, num_images=50, epochs=3)
    config = job_from_plan(other, OptimizerConfig(name="emolynx"), name="a_job")
    assert again(config, other) == config


def test_defaults_are_left_out(again, images, job_file) -> None:
    plan = plan_images(images, family="sdxl", purpose="style")
    again(job_from_plan(plan, OptimizerConfig(name="adamw"), name="a_job"), plan)
    text = job_file.with_name("written.toml").read_text(encoding="utf-8")
    assert "[adapter]" not in text
    assert "[objective]" not in text
    assert "[training]" not in text
    assert f"steps = {plan.steps}\n" in text
