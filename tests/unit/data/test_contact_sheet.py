import numpy as np
import pytest

from trustopt.config import DataConfig
from trustopt.data import contact_sheet, image_set_from_arrays, plan_image_set, scan_folder
from trustopt.data.contact_sheet import BACKGROUND, MARGIN, UNTRAINED, WARNING


def white(width, height):
    return np.full((height, width, 3), 255, np.uint8)


def tile(sheet, size):
    """The first thumbnail's square."""
    return sheet[MARGIN : MARGIN + size, MARGIN : MARGIN + size]


def test_one_square_picture_fills_its_tile():
    sheet = contact_sheet(image_set_from_arrays([white(64, 64)]), size=96)

    assert sheet.dtype == np.uint8
    assert sheet.shape[1] == 96 + 2 * MARGIN
    assert (tile(sheet, 96) == 255).all()
    below = sheet[MARGIN + 96 :]
    assert below.max() > 200  # the name is written there


def test_what_is_cropped_is_dimmed():
    image_set = image_set_from_arrays([white(96, 48)])
    plan = plan_image_set(image_set, DataConfig(resolution=64, bucket_step=16), 64)  # 64x64 only

    row = tile(contact_sheet(image_set, plan, size=96), 96)[60, :, 0]

    # 96x48 resized to 128x64, the middle 64 kept: a quarter of the width is dim on either side.
    assert row[:22].max() == row[-22:].max() == 63
    assert row[26:70].min() == 255


def test_what_a_mask_leaves_out_is_tinted():
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 32:] = 255

    square = tile(contact_sheet(image_set_from_arrays([white(64, 64)], masks=[mask]), size=64), 64)

    assert square[:, 34:].min() == 255
    tinted = 0.4 * 255 + 0.6 * np.array(UNTRAINED)
    assert np.abs(square[32, 10] - tinted).max() <= 1


def test_captions_change_the_sheet_and_long_ones_stay_inside():
    def sheet(caption):
        return contact_sheet(image_set_from_arrays([white(64, 64)], [caption]))

    assert not np.array_equal(sheet("a cat"), sheet("a dog"))
    long = [sheet(caption) for caption in ("word " * 5000, "unbreakable" * 100, "猫" * 1000)]
    assert len({picture.shape for picture in long}) == 1
    assert long[0].shape[1] == sheet("").shape[1]
    assert long[0].shape[0] > sheet("").shape[0]  # four lines instead of one
    for picture in long:
        assert (picture[:, -MARGIN + 2 :] == BACKGROUND).all()


def test_a_large_set_has_several_pages():
    few = contact_sheet(image_set_from_arrays([white(8, 8)] * 64), size=32)
    many = image_set_from_arrays([white(8, 8)] * 70)

    assert few.shape == contact_sheet(many, size=32).shape
    assert not np.array_equal(few, contact_sheet(many, size=32))  # the last line counts pages
    last = contact_sheet(many, plan_image_set(many, DataConfig(resolution=64), 8), 32, page=2)
    assert last.shape[1] == 3 * (32 + MARGIN) + MARGIN  # six pictures in two rows
    for page in (0, 3):
        with pytest.raises(ValueError, match=rf"page must be from 1 to 2 for images, got {page}"):
            contact_sheet(many, size=32, page=page)


def test_fewer_pictures_are_larger():
    widths = [contact_sheet(image_set_from_arrays([white(8, 8)] * n)).shape[1] for n in (1, 20, 70)]
    assert widths == [320 + 2 * MARGIN, 5 * (256 + MARGIN) + MARGIN, 8 * (192 + MARGIN) + MARGIN]


def test_what_needs_a_look_is_written_in_another_colour():
    def warns(caption, side, plan=None):
        image_set = image_set_from_arrays([white(side, side)], [caption])
        buckets = plan_image_set(image_set, DataConfig(resolution=64), 8) if plan else None
        below = contact_sheet(image_set, buckets)[MARGIN + 320 :]
        return (below == WARNING).all(axis=2).any()

    assert not warns("a cat", 64, plan=True)
    assert warns("", 64)
    assert warns("a cat", 32, plan=True)  # enlarged into its bucket
    assert not warns("a cat", 32)


def test_the_caption_shown_is_the_one_trained_on():
    def sheet(caption, trigger_word):
        return contact_sheet(
            image_set_from_arrays([white(64, 64)], [caption], trigger_word=trigger_word)
        )

    assert np.array_equal(sheet("a cat", "zxq"), sheet("zxq, a cat", ""))
    assert not np.array_equal(sheet("a cat", "zxq"), sheet("a cat", ""))


def test_every_resolution_of_a_picture_is_named():
    image_set = image_set_from_arrays([white(64, 64)], ["a"])
    one, two = (
        contact_sheet(
            image_set, plan_image_set(image_set, DataConfig(resolution=64, extra_resolutions=e), 8)
        )
        for e in ((), (32,))
    )
    assert one.shape == two.shape
    assert not np.array_equal(one, two)


def test_a_picture_gone_bad_is_a_red_tile(tmp_path, draw):
    path = draw(tmp_path / "a.png", (64, 64))
    image_set = scan_folder(tmp_path)
    path.write_bytes(b"gone bad")

    assert (tile(contact_sheet(image_set, size=64), 64) == UNTRAINED).all()


def test_refuses_what_cannot_be_drawn():
    with pytest.raises(ValueError, match="at least 32 pixels, got 8"):
        contact_sheet(image_set_from_arrays([white(8, 8)]), size=8)
