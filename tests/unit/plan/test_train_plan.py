import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trustopt.plan import FAMILIES, PURPOSES, VALUES, TrainPlan, make_plan, steps_per_epoch

COUNTS = st.integers(1, 400)
FAMILY = st.sampled_from(FAMILIES)
PURPOSE = st.sampled_from(PURPOSES)
# One value for each name that no table holds, so that a survivor is recognised as the user's.
UNUSUAL = {
    "steps": 1234,
    "lr": 3.21e-5,
    "rank": 12,
    "alpha": 5.5,
    "repeats": 7,
    "scheduler": "linear",
    "warmup_steps": 33,
    "batch_size": 3,
    "accumulation": 5,
    "resolution": 640,
    "save_every": 111,
    "sample_every": 77,
    "min_snr_gamma": 2.5,
    "timesteps": "logit-normal",
    "caption_dropout": 0.3,
    "weight_decay": 0.2,
    "targets": "attention",
}


@pytest.mark.parametrize(
    ("num_images", "preset", "steps", "lr", "repeats", "warmup_steps", "epochs"),
    [
        (1, "A", 1500, 2.0e-4, 2, 300, 750),
        (15, "A", 1500, 2.0e-4, 2, 300, 50),
        (16, "B", 2000, 2.5e-4, 2, 400, 62),
        (23, "B", 2000, 2.5e-4, 2, 400, 43),
        (30, "B", 2000, 2.5e-4, 2, 400, 33),
        (31, "C", 2500, 1.5e-4, 1, 500, 81),
        (50, "C", 2500, 1.5e-4, 1, 500, 50),
        (60, "C", 2500, 1.5e-4, 1, 500, 42),
        (61, "D", 3000, 1.0e-4, 1, 600, 49),
        (75, "D", 3000, 1.0e-4, 1, 600, 40),
    ],
)
def test_flux_character_is_the_document(
    num_images, preset, steps, lr, repeats, warmup_steps, epochs
):
    plan = make_plan(num_images, family="flux", purpose="character")
    assert (plan.preset, plan.steps, plan.lr, plan.repeats) == (preset, steps, lr, repeats)
    assert (plan.rank, plan.alpha, plan.scheduler) == (16, 8.0, "cosine")
    assert (plan.warmup_steps, plan.epochs) == (warmup_steps, epochs)
    assert plan.overridden == frozenset()


def test_unusual_values_cover_all_but_switches_and_epochs():
    assert set(UNUSUAL) == set(VALUES) - {"train_text_encoders", "flip", "epochs"}


@settings(max_examples=60, deadline=None)
@given(COUNTS, PURPOSE, st.sets(st.sampled_from(sorted(UNUSUAL))))
def test_every_override_survives_and_is_marked(num_images, purpose, names):
    overrides = {name: UNUSUAL[name] for name in names}
    plan = make_plan(num_images, family="sdxl", purpose=purpose, overrides=overrides)
    assert {name: getattr(plan, name) for name in names} == overrides
    assert plan.overridden == names


@settings(max_examples=60, deadline=None)
@given(COUNTS, FAMILY, PURPOSE)
def test_an_override_equal_to_the_preset_is_still_the_users(num_images, family, purpose):
    auto = make_plan(num_images, family=family, purpose=purpose)
    pinned = make_plan(
        num_images, family=family, purpose=purpose, overrides={"steps": auto.steps, "lr": None}
    )
    assert pinned.overridden == {"steps"}
    assert pinned.steps == auto.steps


@settings(max_examples=60, deadline=None)
@given(COUNTS, FAMILY, PURPOSE, st.integers(1, 8), st.integers(1, 8), st.integers(1, 5))
def test_epochs_formula(num_images, family, purpose, batch_size, accumulation, repeats):
    plan = make_plan(
        num_images,
        family=family,
        purpose=purpose,
        batch_size=batch_size,
        accumulation=accumulation,
        overrides={"repeats": repeats},
    )
    per_epoch = math.ceil(num_images * repeats / (batch_size * accumulation))
    assert plan.epochs == max(1, round(plan.steps / per_epoch))
    assert plan.steps == make_plan(num_images, family=family, purpose=purpose).steps
    assert plan.overridden == {"batch_size", "accumulation", "repeats"}


@settings(max_examples=60, deadline=None)
@given(COUNTS, COUNTS, FAMILY, PURPOSE)
def test_more_images_never_get_fewer_steps(few, many, family, purpose):
    few, many = sorted((few, many))
    assert (
        make_plan(few, family=family, purpose=purpose).steps
        <= make_plan(many, family=family, purpose=purpose).steps
    )


@settings(max_examples=60, deadline=None)
@given(COUNTS, FAMILY, st.integers(1, 9000))
def test_warmup_and_epochs_follow_the_steps(num_images, family, steps):
    plan = make_plan(num_images, family=family, overrides={"steps": steps})
    assert plan.warmup_steps == round(steps * plan.warmup_fraction)
    longer = make_plan(num_images, family=family, overrides={"steps": steps + 500})
    assert longer.warmup_steps > plan.warmup_steps
    assert longer.epochs >= plan.epochs


def test_warmup_is_a_fifth_of_the_users_steps():
    plan = make_plan(23, family="flux", overrides={"steps": 2300})
    assert (plan.steps, plan.warmup_steps, plan.epochs) == (2300, 460, 50)


@pytest.mark.parametrize(
    ("family", "purpose", "rank", "alpha"),
    [("flux", "character", 32, 16.0), ("flux", "style", 64, 64.0), ("sdxl", "style", 4, 2.0)],
)
def test_alpha_follows_the_rank(family, purpose, rank, alpha):
    plan = make_plan(20, family=family, purpose=purpose, overrides={"rank": rank})
    assert plan.alpha == alpha
    assert plan.overridden == {"rank"}
    kept = make_plan(20, family=family, purpose=purpose, overrides={"rank": rank, "alpha": 1.0})
    assert kept.alpha == 1.0


def test_epochs_give_the_steps():
    plan = make_plan(23, family="flux", overrides={"epochs": 10})
    assert (plan.steps, plan.epochs, plan.warmup_steps) == (460, 10, 92)
    batched = make_plan(23, family="flux", batch_size=4, overrides={"epochs": 10, "repeats": 10})
    assert (batched.steps, batched.epochs) == (580, 10)  # ceil(230 / 4) = 58 steps an epoch


def test_steps_and_epochs_may_be_set_together_if_they_agree():
    plan = make_plan(23, family="flux", overrides={"steps": 2000, "epochs": 43})
    assert (plan.steps, plan.epochs) == (2000, 43)
    with pytest.raises(ValueError, match="an epoch is 46 steps here, so 10 epochs are 460 steps"):
        make_plan(23, family="flux", overrides={"steps": 2000, "epochs": 10})


def test_folder_repeats_count_in_epochs_only():
    plan = make_plan(20, family="flux", num_samples=200)
    assert (plan.preset, plan.steps, plan.epochs) == ("B", 2000, 5)


@pytest.mark.parametrize(
    ("purpose", "trust_level"),
    [("character", 0.475), ("style", 0.4), ("concept", 0.375), ("photoreal", 0.325)],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_trust_level_is_the_middle_of_the_authors_range(family, purpose, trust_level):
    plan = make_plan(20, family=family, purpose=purpose)
    assert plan.trust_level == trust_level
    assert sum(plan.trust_level_range) / 2 == pytest.approx(trust_level)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_images": 0, "origin": "cats (2 skipped)"}, r"no images.*cats \(2 skipped\).*folder"),
        ({"family": "sd15"}, "family must be one of sdxl, flux, got 'sd15'"),
        ({"purpose": "pose"}, "purpose must be one of character, style, concept, photoreal"),
        ({"overrides": {"step": 5}}, "does not know step; it knows accumulation, alpha"),
        ({"overrides": {"steps": 0}}, "steps must be a whole number of at least 1, got 0"),
        ({"overrides": {"steps": 1.5}}, "steps must be a whole number of at least 1, got 1.5"),
        ({"overrides": {"rank": True}}, "rank must be a whole number of at least 1, got True"),
        ({"overrides": {"rank": "8"}}, "rank must be a whole number of at least 1, got '8'"),
        ({"overrides": {"lr": math.nan}}, "lr must be a number of at least 1e-09, got nan"),
        ({"overrides": {"caption_dropout": 1}}, "caption_dropout must be a number from 0 to 0.99"),
        ({"overrides": {"flip": 1}}, "flip must be true or false, got 1"),
        ({"overrides": {"scheduler": "step"}}, "scheduler must be one of constant, linear, cosine"),
        ({"overrides": {"steps": 100, "warmup_steps": 101}}, "101 is longer than the run of 100"),
        ({"overrides": {"train_text_encoders": True}}, "is for SDXL, got a FLUX plan"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"num_samples": 0}, "an epoch needs counts of at least 1, got 0 images"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_plan(**{"num_images": 20, "family": "flux", **arguments})


def test_whole_floats_become_ints():
    plan = make_plan(20, family="flux", overrides={"steps": 1200.0, "alpha": 4})
    assert type(plan.steps) is int
    assert type(plan.alpha) is float


@settings(max_examples=40, deadline=None)
@given(COUNTS, PURPOSE, st.sets(st.sampled_from(sorted(UNUSUAL))))
def test_dict_round_trip_through_json(num_images, purpose, names):
    overrides = {name: UNUSUAL[name] for name in names}
    plan = make_plan(num_images, family="sdxl", purpose=purpose, overrides=overrides)
    assert TrainPlan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


def test_from_dict_names_unknown_missing_and_bad_keys():
    plain = make_plan(20, family="flux").to_dict()
    with pytest.raises(ValueError, match="does not know colour; it knows accumulation"):
        TrainPlan.from_dict({**plain, "colour": 1})
    with pytest.raises(ValueError, match="lacks lr, steps"):
        TrainPlan.from_dict({k: v for k, v in plain.items() if k not in {"lr", "steps"}})
    with pytest.raises(ValueError, match="rank must be a whole number"):
        TrainPlan.from_dict({**plain, "rank": 0})


def test_summary_marks_only_the_users_values():
    plan = make_plan(3, family="flux", overrides={"rank": 32})
    lines = plan.summary().splitlines()
    assert lines[0] == "FLUX character, preset A (small), 3 images"
    assert [line.split()[1:] for line in lines if line.startswith("* ") and "set" not in line] == [
        ["rank", "32"]
    ]
    assert "  alpha                16" in lines
    assert "  lr                   2e-4" in lines
    assert lines[-2] == "* set by you"
    assert lines[-1].startswith("Warning: Few images (3)")
    assert "set by you" not in make_plan(20, family="flux").summary()


def test_steps_per_epoch_rounds_up():
    assert steps_per_epoch(5, 1, 2, 1) == 3
    assert steps_per_epoch(23, 2, 1, 1) == 46
