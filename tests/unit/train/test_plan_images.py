"""Mirrors trustopt/train/plan_images.py."""

from dataclasses import replace

import numpy as np
import pytest

from trustopt.data import image_set_from_arrays
from trustopt.train.plan_images import plan_images


def images(*sizes: tuple[int, int], captions=("a",), repeats: int = 1):
    pictures = [np.zeros((height, width, 3), np.uint8) for width, height in sizes]
    return image_set_from_arrays(pictures, captions, repeats=repeats)


def test_the_count_chooses_the_preset_and_repeats_count_in_an_epoch() -> None:
    plan = plan_images(images(*[(1024, 1024)] * 20, repeats=3), family="flux")
    assert (plan.preset, plan.num_images, plan.num_samples) == ("B", 20, 60)
    assert plan.epochs == round(plan.steps / (60 * plan.repeats))
    assert plan.warnings == ()


def test_what_the_pictures_lack_is_said() -> None:
    plan = plan_images(images((512, 512), (640, 480), captions=["a", ""]), family="sdxl")
    said = "\n".join(plan.warnings)
    assert "Few images (2)" in said
    assert "Without a caption: 1 of 2" in said
    assert "2 image sizes" in said
    assert "Smaller than the training resolution: 2 of 2" in said


def test_the_users_resolution_is_what_pictures_are_measured_by() -> None:
    small = images(*[(512, 512)] * 6)
    plan = plan_images(small, family="sdxl", overrides={"resolution": 512})
    assert plan.warnings == ()
    assert plan.overridden == {"resolution"}


def test_regularisation_pictures_do_not_count() -> None:
    mine, regularisation = images(*[(1024, 1024)] * 10), images(*[(64, 64)] * 50, captions=())
    plan = plan_images(mine.with_regularisation(regularisation), family="flux")
    assert (plan.num_images, plan.preset, plan.warnings) == (10, "A", ())


def test_nothing_left_is_an_error_that_says_what_was_skipped() -> None:
    empty = replace(images((64, 64)), name="cats", samples=(), skipped=("a", "b"))
    with pytest.raises(ValueError, match=r"cats \(2 files skipped\) holds 0"):
        plan_images(empty, family="sdxl")
