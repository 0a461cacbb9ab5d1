import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trustopt.plan import (
    FAMILIES,
    PURPOSES,
    SCHEDULERS,
    ResolvedPlan,
    make_plan,
    resolve_for_optimizer,
)

AUTOTRUSTGO = {
    "optimizer": "AutoTrustGO",
    "schedule_policy": "constant_only",
    "lr_factor": 1.25,
    "steps_factor": 1.2,
    "lr_range_by_purpose": {
        "style": (1e-4, 2e-4),
        "character": (0.8e-4, 1.5e-4),
        "concept": (0.8e-4, 1.5e-4),
        "photoreal": (0.5e-4, 1e-4),
    },
}
EMO = {"optimizer": "EmoNavi", "schedule_policy": "constant"}
ADAMW = {"optimizer": "AdamW"}


def test_adamw_runs_the_plan_as_it_is():
    plan = make_plan(23, family="flux")
    resolved = resolve_for_optimizer(plan, **ADAMW)
    assert (resolved.steps, resolved.lr, resolved.scheduler) == (2000, 2.5e-4, "cosine")
    assert (resolved.warmup_steps, resolved.epochs, resolved.notes) == (400, 43, ())


@pytest.mark.parametrize(
    ("family", "purpose", "num_images", "lr", "steps"),
    [
        ("flux", "character", 23, 1.5e-4, 2400),  # 3.125e-4 clamped
        ("flux", "character", 75, 1.25e-4, 3600),  # 1e-4 x 1.25
        ("sdxl", "style", 10, 1.25e-4, 1800),
        ("sdxl", "photoreal", 40, 1.0e-4, 3000),  # 1.25e-4 clamped
    ],
)
def test_autotrustgo(family, purpose, num_images, lr, steps):
    plan = make_plan(num_images, family=family, purpose=purpose)
    resolved = resolve_for_optimizer(plan, **AUTOTRUSTGO)
    assert resolved.lr == pytest.approx(lr)
    assert (resolved.steps, resolved.scheduler, resolved.warmup_steps) == (steps, "constant", 0)


def test_low_lr_is_raised_to_the_range():
    plan = make_plan(20, family="flux", purpose="style")
    resolved = resolve_for_optimizer(plan, lr_range_by_purpose={"style": (2e-4, 3e-4)})
    assert resolved.lr == 2e-4


def test_every_change_has_its_note():
    resolved = resolve_for_optimizer(make_plan(23, family="flux"), **AUTOTRUSTGO)
    assert resolved.notes == (
        "steps 2400 instead of 2000 (x1.2, as AutoTrustGO moves less early on)",
        "scheduler constant instead of cosine (AutoTrustGO's author forbids schedules by step)",
        "warm-up 0 instead of 400 (AutoTrustGO's author forbids schedules by step)",
        "lr 1.5e-4 instead of 2.5e-4 (x1.25, within its author's 8e-5 to 1.5e-4 for character)",
    )
    assert resolved.epochs == 52  # 2400 steps of 46 an epoch


def test_emo_runs_constant_and_takes_a_suggested_lr_only_if_given():
    plan = make_plan(23, family="flux")
    resolved = resolve_for_optimizer(plan, **EMO)
    assert (resolved.scheduler, resolved.warmup_steps) == ("constant", 0)
    assert (resolved.lr, resolved.steps) == (2.5e-4, 2000)
    assert resolve_for_optimizer(plan, **EMO, suggested_lr=6e-5).lr == 6e-5


def test_the_users_values_stay_and_the_notes_say_what_was_prevented():
    overrides = {"steps": 2000, "lr": 3e-4, "scheduler": "cosine", "warmup_steps": 10}
    plan = make_plan(23, family="flux", overrides=overrides)
    resolved = resolve_for_optimizer(plan, **AUTOTRUSTGO)
    assert {name: getattr(resolved, name) for name in overrides} == overrides
    assert len(resolved.notes) == 4
    assert all(" stays at your " in note for note in resolved.notes)
    assert "lr stays at your 3e-4; alone it is 1.5e-4" in resolved.notes[-1]


def test_epochs_set_by_the_user_keep_the_steps():
    plan = make_plan(23, family="flux", overrides={"epochs": 10})
    resolved = resolve_for_optimizer(plan, **AUTOTRUSTGO)
    assert (resolved.steps, resolved.epochs) == (460, 10)


def test_warmup_follows_the_steps_that_run():
    plan = make_plan(23, family="flux")
    assert resolve_for_optimizer(plan, steps_factor=1.5).warmup_steps == 600
    pinned = make_plan(23, family="flux", overrides={"warmup_steps": 400})
    assert resolve_for_optimizer(pinned, steps_factor=1.5).warmup_steps == 400


def test_the_lr_on_the_optimizer_itself_wins():
    plan = make_plan(23, family="flux", overrides={"lr": 2.5e-4})
    resolved = resolve_for_optimizer(plan, **AUTOTRUSTGO, lr=7e-5)
    assert resolved.lr == 7e-5
    assert "lr 7e-5, set on the optimizer, replaces the plan's 2.5e-4" in resolved.notes
    same = resolve_for_optimizer(plan, **ADAMW, lr=2.5e-4)
    assert same.notes == ()


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 200),
    st.sampled_from(FAMILIES),
    st.sampled_from(PURPOSES),
    st.sampled_from((AUTOTRUSTGO, EMO, ADAMW)),
    st.fixed_dictionaries(
        {},
        optional={
            "steps": st.integers(1, 5000),
            "lr": st.floats(1e-6, 1e-2),
            "scheduler": st.sampled_from(SCHEDULERS),
            "warmup_steps": st.just(1),
        },
    ),
)
def test_no_optimizer_replaces_an_override(num_images, family, purpose, optimizer, overrides):
    plan = make_plan(num_images, family=family, purpose=purpose, overrides=overrides)
    resolved = resolve_for_optimizer(plan, **optimizer)
    assert {name: getattr(resolved, name) for name in overrides} == overrides
    changed = {
        name
        for name in ("steps", "lr", "scheduler", "warmup_steps")
        if getattr(resolved, name) != getattr(plan, name)
    }
    assert len([note for note in resolved.notes if " instead of " in note]) == len(changed)
    assert ResolvedPlan.from_dict(json.loads(json.dumps(resolved.to_dict()))) == resolved


def test_summary_shows_what_runs_and_why():
    text = resolve_for_optimizer(make_plan(75, family="flux"), **AUTOTRUSTGO).summary()
    first, *notes = text.splitlines()
    assert first == "AutoTrustGO: 3600 steps, 48 epochs, lr 1.25e-4, constant, no warm-up"
    assert len(notes) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"schedule_policy": "none"}, "schedule_policy must be one of planned, constant"),
        ({"lr_factor": 0.0}, "lr_factor and steps_factor must be above 0, got 0.0 and 1.0"),
        ({"lr": 0.0}, "lr must be a number of at least 1e-09, got 0.0"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        resolve_for_optimizer(make_plan(20, family="flux"), **arguments)


def test_from_dict_names_unknown_and_missing_keys():
    plain = resolve_for_optimizer(make_plan(20, family="flux"), **ADAMW).to_dict()
    with pytest.raises(ValueError, match="does not know rank; it knows epochs, lr"):
        ResolvedPlan.from_dict({**plain, "rank": 1})
    with pytest.raises(ValueError, match="lacks steps"):
        ResolvedPlan.from_dict({key: value for key, value in plain.items() if key != "steps"})
