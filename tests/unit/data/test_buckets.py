import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trustopt.config import DataConfig
from trustopt.data.buckets import (
    BucketRules,
    bucket_rules,
    bucket_sizes,
    choose_bucket,
    place,
    plan_buckets,
)

SMALL = BucketRules(resolution=64, step=16, multiple=16)
SIDES = st.integers(1, 5000)


def test_sizes_of_a_small_resolution_by_hand():
    # R^2 = 4096, at least 3686: 32x128 = 4096, 48x80 = 3840, 64x64 = 4096; 16 wide is over 1:4.
    assert bucket_sizes(SMALL) == [(32, 128), (48, 80), (64, 64), (80, 48), (128, 32)]


def test_sizes_of_1024_are_those_other_trainers_use():
    sizes = bucket_sizes(bucket_rules(1024, bucket_step=64, multiple=8))

    expected = {(1024, 1024), (960, 1088), (896, 1152), (832, 1216), (768, 1344), (704, 1472)}
    assert expected | {(h, w) for w, h in expected} <= set(sizes)
    assert min(sizes) == (512, 1856)
    assert (512, 2048) in sizes
    assert all((h, w) in sizes for w, h in sizes)


@pytest.mark.parametrize(
    ("resolution", "bucket_step", "multiple", "step"),
    [
        (1024, 64, 8, 64),
        (512, 64, 8, 32),
        (512, 64, 16, 32),
        (256, 64, 16, 16),
        (128, 64, 16, 16),
        (128, 64, 8, 8),
        (1024, 24, 16, 16),
        (1024, 8, 16, 16),
        (16, 64, 16, 16),
    ],
)
def test_step_shrinks_with_the_resolution_and_fits_the_model(
    resolution, bucket_step, multiple, step
):
    assert bucket_rules(resolution, bucket_step=bucket_step, multiple=multiple).step == step


def test_a_resolution_below_the_model_is_refused():
    with pytest.raises(ValueError, match="at least 16 pixels for this model, got 8"):
        bucket_rules(8, bucket_step=64, multiple=16)


@pytest.mark.parametrize(
    ("size", "bucket"),
    [
        ((300, 200), (80, 48)),  # 1.5: log distance 0.11 to 1.67, 0.41 to 1
        ((200, 300), (48, 80)),
        ((100, 100), (64, 64)),
        ((125, 100), (64, 64)),  # 1.25: 0.22 to 1, 0.29 to 1.67
        ((1000, 10), (128, 32)),
    ],
)
def test_the_nearest_aspect_is_chosen(size, bucket):
    assert choose_bucket(size, SMALL, bucket_sizes(SMALL)) == bucket


@pytest.mark.parametrize(
    ("size", "bucket"),
    [
        ((300, 200), (80, 48)),  # large enough
        ((50, 40), (48, 32)),  # its own size rounded down
        ((10, 10), (16, 16)),  # below the smallest side there is
        ((1000, 20), (64, 16)),  # 992x16 cut to 4:1
    ],
)
def test_without_upscaling_small_pictures_keep_their_size(size, bucket):
    rules = BucketRules(resolution=64, step=16, multiple=16, upscale=False)

    assert choose_bucket(size, rules, bucket_sizes(rules)) == bucket


def test_place_by_hand():
    placement = place((300, 200), (80, 48))

    assert placement.resized == (80, 53)  # 200 * 80 / 300 = 53.3
    assert placement.crop == (0, 2)
    assert placement.scale == pytest.approx(80 / 300)
    assert placement.cropped == pytest.approx(1 - 48 / 53)
    assert placement.geometry.original == (300, 200)
    assert placement.geometry.target == (80, 48)


def test_labels_of_a_mirrored_crop_are_the_mirrored_ones():
    straight = place((100, 50), (48, 48), position=0.0)
    mirrored = place((100, 50), (48, 48), position=0.0, flipped=True)

    assert straight.geometry.crop == (0, 0)
    assert mirrored.geometry.crop == (48, 0)  # 96 - 48 - 0


@given(
    size=st.tuples(SIDES, SIDES),
    resolution=st.integers(16, 2048),
    bucket_step=st.integers(8, 128),
    multiple=st.sampled_from([8, 16]),
    upscale=st.booleans(),
    position=st.floats(0.0, 1.0),
)
def test_every_picture_is_covered_and_cropped_inside(
    size, resolution, bucket_step, multiple, upscale, position
):
    rules = bucket_rules(resolution, bucket_step=bucket_step, multiple=multiple, upscale=upscale)
    bucket = choose_bucket(size, rules, bucket_sizes(rules))
    placement = place(size, bucket, position=position)

    assert rules.step % multiple == 0
    assert bucket[0] % multiple == bucket[1] % multiple == 0
    assert multiple**2 <= math.prod(bucket) <= resolution**2
    assert max(bucket) <= 4 * min(bucket)
    for axis in (0, 1):
        slack = placement.resized[axis] - bucket[axis]
        assert 0 <= placement.crop[axis] <= slack
        exact = size[axis] * max(bucket[0] / size[0], bucket[1] / size[1])
        assert abs(placement.resized[axis] - exact) <= 1.0
    assert bucket[0] == placement.resized[0] or bucket[1] == placement.resized[1]
    if not upscale and min(size) >= multiple:
        assert bucket[0] <= size[0]
        assert bucket[1] <= size[1]
    assert placement.geometry.crop == placement.crop


def test_the_plan_lists_every_view():
    config = DataConfig(
        resolution=64, extra_resolutions=(128, 64), flip=True, random_crop=True, bucket_step=16
    )

    plan = plan_buckets(["a", "b"], [(300, 200), (64, 64)], config, 16)

    oblong, square = plan.views
    assert [v.bucket for v in oblong] == ([(160, 96)] * 5 + [(80, 48)] * 5) * 2
    assert [v.crop[1] for v in oblong[:5]] == [5, 0, 2, 8, 11]  # the centre first; 107 - 96 = 11
    assert [v.flipped for v in oblong] == [False] * 10 + [True] * 10
    # A square is never cropped, so its crops are one.
    assert [v.bucket for v in square] == [(128, 128), (64, 64)] * 2
    assert plan.buckets == {(160, 96): 1, (80, 48): 1, (128, 128): 1, (64, 64): 1}


def test_random_crops_reach_both_ends():
    config = DataConfig(resolution=64, random_crop=True, bucket_step=16)

    [views] = plan_buckets(["a"], [(340, 200)], config, 16).views  # 80x48 of 82x48

    assert {v.crop for v in views} == {(0, 0), (1, 0), (2, 0)}
    assert views[0].crop == (1, 0)


def test_report_shows_the_table_and_what_suffers():
    config = DataConfig(resolution=64, bucket_step=16)
    names = ["wide", "tiny", "strip"]

    report = plan_buckets(names, [(200, 120), (32, 32), (800, 100)], config, 16).report(2)

    assert "   80x48      1.67       1" in report
    assert "1 of 3 images are enlarged and may train blur (tiny x2.0)" in report
    assert "1 images lose over 20 % to cropping (strip 50%)" in report
    assert "3 buckets hold fewer than 2 images" in report
    assert "enlarged" not in plan_buckets(["a"], [(200, 120)], config, 16).report()
