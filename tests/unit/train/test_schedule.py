import pytest
from hypothesis import given
from hypothesis import strategies as st

from trustopt.plan import SCHEDULERS, make_plan, resolve_for_optimizer
from trustopt.train.schedule import NUM_RESTARTS, SHAPES, lr_at, lr_factor


def factors(scheduler, steps, warmup_steps):
    return [
        lr_factor(step, steps=steps, warmup_steps=warmup_steps, scheduler=scheduler)
        for step in range(steps)
    ]


def test_every_scheduler_of_the_plan_has_a_shape():
    assert set(SHAPES) == set(SCHEDULERS)


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [  # 8 steps, 4 of them warm-up; progress 0, 1/4, 1/2, 3/4 after it
        ("constant", [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25]),
        ("cosine", [0.25, 0.5, 0.75, 1.0, 1.0, 0.8535533906, 0.5, 0.1464466094]),
    ],
)
def test_hand_computed(scheduler, expected):
    assert factors(scheduler, 8, 4) == pytest.approx(expected)


def test_restarts_hand_computed():
    assert NUM_RESTARTS == 3
    # 6 steps, no warm-up: three arcs of two steps each, at 0 and 1/2 of the arc.
    assert factors("cosine_with_restarts", 6, 0) == pytest.approx([1.0, 0.5] * 3)


@given(st.integers(1, 3000))
def test_restarts_start_at_full(third):
    for arc in range(NUM_RESTARTS):
        assert lr_factor(
            arc * third, steps=3 * third, warmup_steps=0, scheduler="cosine_with_restarts"
        ) == pytest.approx(1.0)


@given(st.sampled_from(SCHEDULERS), st.integers(1, 300), st.integers(0, 300))
def test_no_step_is_wasted_and_none_exceeds_the_lr(scheduler, steps, warmup_steps):
    values = factors(scheduler, steps, warmup_steps)
    assert all(0.0 < value <= 1.0 for value in values)
    warm = values[:warmup_steps]
    assert warm == sorted(warm)
    if scheduler != "cosine_with_restarts":
        rest = values[warmup_steps:]
        assert rest == sorted(rest, reverse=True)


@pytest.mark.parametrize(
    ("scheduler", "end"),
    [("constant", 1.0), ("linear", 0.0), ("cosine", 0.0), ("cosine_with_restarts", 0.0)],
)
def test_after_the_run_the_end_holds(scheduler, end):
    for step in (10, 11, 500):
        assert lr_factor(step, steps=10, warmup_steps=2, scheduler=scheduler) == pytest.approx(end)


def test_a_warmup_as_long_as_the_run():
    assert factors("cosine", 4, 4) == [0.25, 0.5, 0.75, 1.0]


def test_lr_of_a_plan():
    resolved = resolve_for_optimizer(make_plan(23, family="flux"))
    assert lr_at(0, resolved) == pytest.approx(2.5e-4 / 400)
    assert lr_at(399, resolved) == pytest.approx(2.5e-4)
    assert lr_at(1200, resolved) == pytest.approx(1.25e-4)  # half of the 1600 steps after warm-up


@pytest.mark.parametrize(
    ("step", "scheduler", "message"),
    [(-1, "linear", "step must be at least 0, got -1"), (0, "exp", "scheduler must be one of")],
)
def test_bad_input_is_named(step, scheduler, message):
    with pytest.raises(ValueError, match=message):
        lr_factor(step, steps=10, warmup_steps=0, scheduler=scheduler)
