import numpy as np
import pytest
from PIL import Image, ImageOps

from trustopt.data.buckets import place
from trustopt.data.images import (
    UnusablePictureError,
    cut_mask,
    cut_picture,
    file_thumbnail,
    inspect_picture,
    to_rgb,
)
from trustopt.data.samples import Sample


def sample_of(source, size, **fields):
    return Sample(name="a", source=source, caption="", width=size[0], height=size[1], **fields)


def ramp(width, height):
    """Red is x, green is y."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, np.zeros_like(x)], -1).astype(np.uint8)


def test_crop_takes_the_pixels_the_placement_names():
    pixels = ramp(100, 50)

    left = cut_picture(sample_of(pixels, (100, 50)), place((100, 50), (48, 48), position=0.0))
    middle = cut_picture(sample_of(pixels, (100, 50)), place((100, 50), (48, 48)))

    assert left.shape == (48, 48, 3)
    assert abs(int(left[0, 0, 0]) - 0) <= 1
    # 100x50 resized to 96x48, crop at (24, 0): the first column is x = 24.5 / 0.96 - 0.5 = 25.0
    assert abs(int(middle[0, 0, 0]) - 25) <= 1


def test_uncropped_pixels_are_left_alone():
    pixels = ramp(64, 48)

    cut = cut_picture(sample_of(pixels, (64, 48)), place((64, 48), (64, 48)))

    assert np.array_equal(cut, pixels)


def test_mirrored_is_the_mirror_of_the_same_crop():
    pixels = ramp(100, 50)
    sample = sample_of(pixels, (100, 50))

    straight = cut_picture(sample, place((100, 50), (48, 48), position=0.0))
    mirrored = cut_picture(sample, place((100, 50), (48, 48), position=0.0, flipped=True))

    assert np.array_equal(mirrored, straight[:, ::-1])


def test_jpeg_is_decoded_small_with_the_same_result(tmp_path, draw):
    path = draw(tmp_path / "a.jpg", (1024, 768), quality=95)
    placement = place((1024, 768), (128, 96))

    cut = cut_picture(sample_of(path, (1024, 768)), placement)

    with Image.open(path) as image:
        plain = np.asarray(image.resize((128, 96), Image.Resampling.LANCZOS))
    assert cut.shape == (96, 128, 3)
    assert np.abs(cut.astype(int) - plain).mean() < 1.0  # of 255


def test_exif_orientation_is_applied_to_the_pixels(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to view
    image = Image.new("RGB", (64, 32), "black")
    image.paste((255, 0, 0), (0, 0, 32, 32))
    image.save(tmp_path / "a.jpg", exif=exif, quality=95)

    cut = cut_picture(sample_of(tmp_path / "a.jpg", (32, 64)), place((32, 64), (32, 64)))

    assert cut.shape == (64, 32, 3)
    assert cut[:28, :, 0].min() > 200  # the left half is on top
    assert cut[36:, :, 0].max() < 50


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_as_pillow_turns_it(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = ramp(64, 32)
    for name in ("a.png", "a.webp"):
        Image.fromarray(pixels).save(tmp_path / name, exif=exif, lossless=True)
        with Image.open(tmp_path / name) as image:
            turned = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        size = turned.shape[1], turned.shape[0]

        facts = inspect_picture(tmp_path / name)
        cut = cut_picture(sample_of(tmp_path / name, size), place(size, size))

        assert (facts.width, facts.height) == size
        assert np.array_equal(cut, turned)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_damaged_exif_block_does_no_harm(tmp_path, draw):
    path = draw(tmp_path / "a.jpg", (64, 48), exif=b"Exif\0\0MM\0*\xff\xff\xff\xff broken")

    assert inspect_picture(path).width == 64
    assert cut_picture(sample_of(path, (64, 48)), place((64, 48), (64, 48))).shape == (48, 64, 3)


def test_16_bit_greyscale_keeps_its_range():
    image = Image.fromarray(np.array([[0, 257, 32896, 65535]], np.uint16))

    assert np.asarray(to_rgb(image))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_16_bit_with_a_transparent_colour_is_usable(tmp_path):
    deep = Image.fromarray(np.full((8, 8), 65535, np.uint16))
    deep.save(tmp_path / "a.png", transparency=0)

    facts = inspect_picture(tmp_path / "a.png")
    cut = cut_picture(sample_of(tmp_path / "a.png", (8, 8)), place((8, 8), (8, 8)))

    assert not facts.has_alpha
    assert cut.min() == 255


def test_wider_integers_and_floats_are_refused():
    with pytest.raises(UnusablePictureError, match="wider than 16 bits"):
        to_rgb(Image.fromarray(np.array([[0, 70_000]], np.int32)))
    with pytest.raises(UnusablePictureError, match="floating-point"):
        to_rgb(Image.fromarray(np.zeros((2, 2), np.float32)))


def test_colours_below_transparent_pixels_stay():
    pixels = np.array([[[10, 20, 30, 0], [40, 50, 60, 255]]], np.uint8)

    assert np.asarray(to_rgb(Image.fromarray(pixels))).tolist() == [[[10, 20, 30], [40, 50, 60]]]


def test_palette_transparency_is_alpha(tmp_path):
    image = Image.new("P", (16, 16), 0)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.paste(1, (0, 0, 8, 16))
    image.save(tmp_path / "a.gif", transparency=1)

    facts = inspect_picture(tmp_path / "a.gif")
    mask = cut_mask(
        sample_of(tmp_path / "a.gif", (16, 16), mask="alpha"), place((16, 16), (16, 16))
    )

    assert facts.has_alpha
    assert mask[:, :8].max() == 0.0
    assert mask[:, 8:].min() == 1.0


def test_mask_of_another_size_is_cut_like_its_picture():
    mask = np.zeros((25, 50), np.uint8)
    mask[:, 25:] = 255  # the right half

    cut = cut_mask(
        sample_of(ramp(100, 50), (100, 50), mask=mask),
        place((100, 50), (48, 48), position=1.0, flipped=True),
    )

    assert cut.shape == (48, 48)
    assert cut.dtype == np.float32
    # Resized to 96 wide, the right 48 columns are all inside the mask.
    assert cut.min() == 1.0


def test_no_mask_is_none():
    assert cut_mask(sample_of(ramp(8, 8), (8, 8)), place((8, 8), (8, 8))) is None


def test_a_file_cut_off_after_the_scan_is_named(tmp_path, draw):
    path = draw(tmp_path / "a.png", (200, 200))
    path.write_bytes(path.read_bytes()[:300])
    sample = sample_of(path, (200, 200))

    with pytest.raises(UnusablePictureError, match="damaged or cut off"):
        cut_picture(sample, place((200, 200), (64, 64)))
    with pytest.raises(UnusablePictureError, match="its mask: damaged"):
        cut_mask(sample_of(ramp(200, 200), (200, 200), mask=path), place((200, 200), (64, 64)))


def test_a_file_replaced_after_the_scan_is_named(tmp_path, draw):
    path = draw(tmp_path / "a.jpg", (200, 100))

    with pytest.raises(UnusablePictureError, match="changed since the folder was read"):
        cut_picture(sample_of(path, (100, 200)), place((100, 200), (64, 64)))


def test_a_thumbnail_is_whole_upright_and_no_larger_than_asked(tmp_path, draw):
    large = draw(tmp_path / "large.jpg", (640, 320))
    shown = file_thumbnail(large, 64)
    assert (shown.size, shown.mode) == ((64, 32), "RGB")
    whole = Image.open(large).resize((64, 32), Image.Resampling.LANCZOS)
    assert np.abs(np.asarray(shown, float) - np.asarray(whole, float)).mean() < 3

    assert file_thumbnail(draw(tmp_path / "small.png", (20, 10), mode="P"), 64).size == (20, 10)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = draw(tmp_path / "turned.jpg", (640, 320), exif=exif)
    assert file_thumbnail(turned, 64).size == (32, 64)
    with pytest.raises(UnusablePictureError, match="damaged or cut off"):
        file_thumbnail(tmp_path / "absent.png", 64)


def test_postscript_is_never_run(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n")

    with pytest.raises(UnusablePictureError, match="not a picture"):
        inspect_picture(tmp_path / "a.png")
