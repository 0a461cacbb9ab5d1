from dataclasses import replace

import numpy as np
import pytest

from trustopt.data.samples import FileNote, Sample, image_set_from_arrays


def grey(value, shape=(8, 12, 3)):
    return np.full(shape, value, np.uint8)


def test_floats_become_bytes_and_names_are_numbered():
    floats = np.array([[[0.0, 0.5, 1.0], [-1.0, 2.0, 0.25]]], np.float32)

    image_set = image_set_from_arrays([floats, grey(7)], ["one\n caption"], name="batch", repeats=2)

    assert [s.name for s in image_set.samples] == ["batch-0001", "batch-0002"]
    assert image_set.samples[0].source.tolist() == [[[0, 128, 255], [0, 255, 64]]]
    assert [s.caption for s in image_set.samples] == ["one caption"] * 2
    assert (image_set.samples[1].width, image_set.samples[1].height) == (12, 8)
    assert image_set.samples[1].repeats == 2


def test_masks_are_given_or_taken_from_alpha():
    sheer = grey(255, (8, 12, 4))
    sheer[0, 0, 3] = 0
    masks = [np.zeros((8, 12), np.float32), None, None]

    image_set = image_set_from_arrays([grey(1), sheer, grey(255, (8, 12, 4))], masks=masks)

    given, alpha, opaque = (s.mask for s in image_set.samples)
    assert given.dtype == np.uint8
    assert alpha == "alpha"
    assert opaque is None


@pytest.mark.parametrize(
    ("images", "options", "complaint"),
    [
        ([], {}, "holds no image"),
        ([grey(0)] * 3, {"captions": ["a", "b"]}, "2 captions for 3 images"),
        ([grey(0)] * 2, {"masks": [None]}, "1 masks for 2 images"),
        ([grey(0)], {"repeats": 0}, "repeats must be at least 1"),
        ([grey(0, (8, 8))], {}, r"has shape \(8, 8\)"),
        ([grey(0, (8, 8, 2))], {}, "3 or 4"),
        ([np.full((4, 4, 3), np.nan)], {}, "NaN"),
        ([grey(0)], {"masks": [np.zeros((3, 3))]}, "they must be equal"),
    ],
)
def test_wrong_input_is_refused(images, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        image_set_from_arrays(images, **options)


def test_fingerprint_follows_content_caption_mask_repeats_and_trigger(tmp_path, draw):
    def build(seed=0, mask_seed=0, **changes):
        sample = Sample(
            name="a",
            source=draw(tmp_path / f"{seed}.png", seed=seed),
            caption="a",
            width=64,
            height=48,
            mask=draw(tmp_path / f"mask{mask_seed}.png", seed=mask_seed, mode="L"),
        )
        image_set = image_set_from_arrays([grey(0)])
        trigger_word = changes.pop("trigger_word", "")
        sample = replace(sample, **changes)
        return replace(image_set, samples=(sample,), trigger_word=trigger_word).fingerprint()

    base = build()

    assert build() == base
    changed = [
        build(seed=1),
        build(mask_seed=1),
        build(mask=None),
        build(mask="alpha"),
        build(caption="b"),
        build(repeats=2),
        build(is_regularisation=True),
        build(trigger_word="sks"),
    ]
    assert len({base, *changed}) == 9


def test_arrays_of_one_content_but_another_shape_differ():
    tall, wide = image_set_from_arrays([grey(0, (4, 2, 3)), grey(0, (2, 4, 3))]).samples

    assert tall.digest != wide.digest


def test_report_helps_with_captions():
    images = [grey(i) for i in range(3)]

    report = image_set_from_arrays(images, ["", "a cat", "sks"], trigger_word="sks").report()

    assert "3 images" in report
    assert "1 of 3 images have no caption (images-0001): they train on 'sks' alone" in report
    assert "'sks' is missing from 1 of 3 captions (images-0002)" in report
    assert (
        "missing"
        not in image_set_from_arrays(images, ["[trigger] cat"], trigger_word="sks").report()
    )
    assert "without any words" in image_set_from_arrays(images).report()


def test_report_gathers_files_with_the_same_fate():
    image_set = image_set_from_arrays([grey(0)], ["a"])
    skipped = tuple(FileNote(f"{i}.png", "the file is empty") for i in range(22))
    notes = (
        FileNote("a.png", "converted"),
        FileNote("b.png", "read"),
        FileNote("c.png", "converted"),
    )

    lines = replace(image_set, skipped=skipped, notes=notes).report().splitlines()

    assert lines[1].startswith("skipped 0.png, 1.png, ")
    assert lines[1].endswith("19.png and 2 more: the file is empty")
    assert lines[2:] == ["a.png, c.png: converted", "b.png: read"]


def test_regularisation_pictures_are_marked_and_counted():
    both = image_set_from_arrays([grey(1)], name="cats").with_regularisation(
        image_set_from_arrays([grey(2), grey(3)], name="animals")
    )

    assert [s.is_regularisation for s in both.samples] == [False, True, True]
    assert len({s.name for s in both.samples}) == 3
    assert "1 images, 2 regularisation images" in both.report()


def test_a_class_word_adds_a_regularisation_copy_of_each_picture():
    images = image_set_from_arrays(
        [np.zeros((8, 8, 3), np.uint8), np.ones((8, 8, 3), np.uint8)],
        ["zxq cat asleep", "on a sofa"],
        trigger_word="zxq cat",
    )
    kept = images.preserving("cat")

    assert [(s.caption, s.is_regularisation) for s in kept.samples] == [
        ("zxq cat asleep", False),
        ("on a sofa", False),
        ("cat asleep", True),
        ("cat, on a sofa", True),
    ]
    assert kept.preserving("cat") is kept
    assert [s.digest for s in kept.samples[2:]] == [s.digest for s in images.samples]
    with pytest.raises(ValueError, match="class_word 'cat' needs a trigger word"):
        image_set_from_arrays([np.zeros((8, 8, 3), np.uint8)]).preserving("cat")
