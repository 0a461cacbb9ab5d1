import numpy as np
import pytest

from trustopt.config import DataConfig
from trustopt.data import contact_sheet, image_set_from_arrays, plan_image_set, scan_folder
from trustopt.data.contact_sheet import BACKGROUND, MARGIN, UNTRAINED


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

    row = tile(contact_sheet(image_set, plan, size=96), 96)[48, :, 0]

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
    assert sheet("word " * 5000).shape == sheet("unbreakable" * 100).shape == sheet("").shape
    for caption in ("word " * 5000, "unbreakable" * 100):
        assert (sheet(caption)[:, -MARGIN:] == BACKGROUND).all()
    assert sheet("猫 赤い").shape == sheet("").shape


def test_a_large_set_is_shown_in_part(tmp_path):
    few = contact_sheet(image_set_from_arrays([white(8, 8)] * 64), size=32)
    many = contact_sheet(image_set_from_arrays([white(8, 8)] * 200), size=32)

    assert few.shape == many.shape
    assert not np.array_equal(few, many)  # the last line counts the rest


def test_a_picture_gone_bad_is_a_red_tile(tmp_path, draw):
    path = draw(tmp_path / "a.png", (64, 64))
    image_set = scan_folder(tmp_path)
    path.write_bytes(b"gone bad")

    assert (tile(contact_sheet(image_set, size=64), 64) == UNTRAINED).all()


def test_refuses_what_cannot_be_drawn():
    with pytest.raises(ValueError, match="at least 32 pixels, got 8"):
        contact_sheet(image_set_from_arrays([white(8, 8)]), size=8)
