"""Mirrors trustopt/train/plan_job.py: what a plan and an optimizer make of a job together."""

import pytest

from trustopt.config import AdapterConfig, OptimizerConfig
from trustopt.plan import FAMILIES, PURPOSES, make_plan
from trustopt.train.plan_job import AUTOTRUSTGO_LR, job_from_plan, resolve


def plan(count=20, *, family="sdxl", purpose="character", **overrides):
    return make_plan(count, family=family, purpose=purpose, overrides=overrides)


def job(made, optimizer="adamw", **settings):
    return job_from_plan(made, OptimizerConfig(name=optimizer), name="job", **settings)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("purpose", PURPOSES)
def test_adamw_trains_the_plan_as_it_is(family, purpose) -> None:
    made = plan(family=family, purpose=purpose)
    config = job(made)
    for name in ("steps", "lr", "scheduler", "warmup_steps", "batch_size", "accumulation",
                 "repeats", "save_every", "sample_every"):  # fmt: skip
        assert getattr(config, name) == getattr(made, name), name
    for name in ("rank", "alpha", "targets", "train_text_encoders"):
        assert getattr(config.adapter, name) == getattr(made, name), name
    for name in ("resolution", "flip", "caption_dropout"):
        assert getattr(config.data, name) == getattr(made, name), name
    assert config.objective.timesteps == made.timesteps
    assert config.optimizer.options["weight_decay"] == made.weight_decay


@pytest.mark.parametrize("purpose", PURPOSES)
def test_autotrustgo_needs_no_schedule_and_stays_in_its_authors_range(purpose) -> None:
    made = plan(purpose=purpose)
    config = job(made, "autotrustgo")
    low, high = AUTOTRUSTGO_LR[purpose]
    assert (config.scheduler, config.warmup_steps) == ("constant", 0)
    assert low <= config.lr <= high
    assert config.steps == round(made.steps * 1.2)
    assert config.optimizer.options == {"trust_level": made.trust_level}


@pytest.mark.parametrize("name", ["emonavi", "emofact", "emolynx"])
def test_emo_takes_the_planned_lr_without_a_schedule(name) -> None:
    made = plan()
    config = job(made, name)
    assert (config.lr, config.steps) == (made.lr, made.steps)
    assert (config.scheduler, config.warmup_steps) == ("constant", 0)


def test_what_the_user_set_is_never_replaced() -> None:
    made = plan(steps=777, lr=7e-4, scheduler="linear", warmup_steps=7)
    config = job(made, "autotrustgo")
    assert (config.steps, config.lr, config.scheduler, config.warmup_steps) == (
        777, 7e-4, "linear", 7,
    )  # fmt: skip
    notes = " ".join(resolve(made, OptimizerConfig(name="autotrustgo")).notes)
    assert all(word in notes for word in ("steps stays", "lr stays", "scheduler stays"))


def test_an_lr_on_the_optimizer_wins_over_the_plans() -> None:
    config = job_from_plan(plan(lr=7e-4), OptimizerConfig(name="adamw", lr=3e-4), name="job")
    assert config.lr == 3e-4


def test_options_of_the_user_win_and_unfit_ones_are_not_added() -> None:
    optimizer = OptimizerConfig(name="autotrustgo", options={"trust_level": 0.9})
    config = job_from_plan(plan(), optimizer, name="job")
    assert config.optimizer.options == {"trust_level": 0.9}


def test_a_gamma_of_zero_turns_the_weighting_off() -> None:
    assert job(plan(min_snr_gamma=0)).objective.weighting == "none"
    weighted = job(plan(min_snr_gamma=7)).objective
    assert (weighted.weighting, weighted.min_snr_gamma) == ("auto", 7.0)


def test_given_parts_and_settings_replace_the_plans() -> None:
    config = job(plan(), adapter=AdapterConfig(rank=3), save_every=9, ema_decay=0.5)
    assert (config.adapter.rank, config.save_every, config.ema_decay) == (3, 9, 0.5)


def test_an_unknown_optimizer_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown optimizer 'sgd9'; choose one of autotrustgo"):
        job(plan(), "sgd9")
