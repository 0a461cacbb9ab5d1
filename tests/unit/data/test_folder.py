import os

import numpy as np
import pytest
from PIL import Image

from trustopt.data.folder import folder_stamp, same_content, scan_folder


def names(image_set):
    return [sample.name for sample in image_set.samples]


def reasons(notes):
    return {note.file: note.text for note in notes}


def test_reads_pictures_and_captions_in_a_stable_order(tmp_path, draw):
    draw(tmp_path / "b.png", (40, 30))
    draw(tmp_path / "a.jpg", (64, 48), seed=1)
    draw(tmp_path / "c.webp", (32, 56), seed=2)
    (tmp_path / "a.txt").write_text("a red\n cat ", encoding="utf-8")
    (tmp_path / "c.caption").write_text("other extension", encoding="utf-8")

    image_set = scan_folder(tmp_path, trigger_word=" sks ", repeats=3)

    assert names(image_set) == ["a", "b", "c"]
    assert [s.caption for s in image_set.samples] == ["a red cat", "", "other extension"]
    assert [(s.width, s.height) for s in image_set.samples] == [(64, 48), (40, 30), (32, 56)]
    assert {s.repeats for s in image_set.samples} == {3}
    assert image_set.trigger_word == "sks"
    assert not image_set.skipped
    assert not image_set.notes


def test_the_asked_extension_comes_before_the_usual_ones(tmp_path, draw):
    draw(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("usual")
    (tmp_path / "a.tags").write_text("asked")

    assert scan_folder(tmp_path).samples[0].caption == "usual"
    assert scan_folder(tmp_path, caption_extension="tags").samples[0].caption == "asked"


def test_kohya_subfolders_carry_repeats_and_class_words(tmp_path, draw):
    draw(tmp_path / "10_sks_red cat" / "a.png")
    draw(tmp_path / "2_dog" / "a.png", seed=1)
    (tmp_path / "2_dog" / "a.txt").write_text("a brown dog")
    draw(tmp_path / "2024_trip" / "a.png", seed=2)
    (tmp_path / "empty").mkdir()

    image_set = scan_folder(tmp_path, repeats=2)

    assert [(s.name, s.repeats, s.caption) for s in image_set.samples] == [
        ("10_sks_red cat/a", 20, "sks red cat"),
        ("2_dog/a", 4, "a brown dog"),
    ]
    assert list(reasons(image_set.skipped)) == ["2024_trip"]
    assert "10_cat" in image_set.skipped[0].text


def test_missing_and_empty_folders_are_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere does not exist"):
        scan_folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no usable image: put PNG"):
        scan_folder(tmp_path)
    with pytest.raises(ValueError, match="repeats must be at least 1, got 0"):
        scan_folder(tmp_path, repeats=0)


def test_a_folder_of_bad_files_says_what_is_wrong_with_each(tmp_path):
    (tmp_path / "zero.png").touch()
    (tmp_path / "text.jpg").write_text("not a picture")

    with pytest.raises(ValueError, match="no usable image") as caught:
        scan_folder(tmp_path)

    assert "zero.png: the file is empty" in str(caught.value)
    assert "text.jpg: not a picture" in str(caught.value)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bad_files_are_skipped_with_a_reason_and_the_rest_is_read(tmp_path, draw):
    draw(tmp_path / "good.png")
    (tmp_path / "zero.png").touch()
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "phone.heic").write_bytes(b"ftypheic")
    for extension in ("png", "jpg", "webp", "gif", "bmp", "tif"):
        path = draw(tmp_path / f"cut-{extension}.{extension}", (200, 200), seed=1)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    Image.new("1", (20_000, 5_000)).save(tmp_path / "huge.png")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")

    image_set = scan_folder(tmp_path)

    assert names(image_set) == ["good"]
    said = reasons(image_set.skipped)
    assert said.pop("zero.png") == "the file is empty (0 bytes)"
    assert said.pop("text.jpg") == "not a picture, or damaged at its start"
    assert "convert it to PNG or JPEG" in said.pop("phone.heic")
    assert "20000x5000" in said.pop("huge.png")
    assert "too large" in said.pop("bomb.png")
    assert set(said) == {f"cut-{e}.{e}" for e in ("png", "jpg", "webp", "gif", "bmp", "tif")}
    for reason in said.values():
        assert reason.startswith(("damaged or cut off", "not a picture, or damaged"))


def test_what_is_converted_is_said(tmp_path, draw):
    draw(tmp_path / "cmyk.jpg", mode="CMYK", seed=1)
    deep = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
    Image.fromarray(deep).save(tmp_path / "deep.png")
    draw(tmp_path / "palette.png", mode="P", seed=2)
    draw(tmp_path / "grey.png", mode="L", seed=3)
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    Image.fromarray(np.zeros((8, 8), np.float32)).save(tmp_path / "float.tif")

    image_set = scan_folder(tmp_path)

    assert names(image_set) == ["cmyk", "deep", "grey", "moving", "palette"]
    said = reasons(image_set.notes)
    assert said.keys() == {"cmyk.jpg", "deep.png", "moving.gif"}
    assert "CMYK converted" in said["cmyk.jpg"]
    assert "16-bit" in said["deep.png"]
    assert "first frame" in said["moving.gif"]
    assert "floating-point" in reasons(image_set.skipped)["float.tif"]


def test_of_two_files_with_one_name_the_lossless_one_stays(tmp_path, draw):
    draw(tmp_path / "a.jpg")
    draw(tmp_path / "a.png")

    image_set = scan_folder(tmp_path)

    assert [s.source.name for s in image_set.samples] == ["a.png"]
    assert reasons(image_set.skipped) == {
        "a.jpg": "has the name of a.png: rename it to train on both"
    }


def test_a_damaged_file_does_not_take_the_place_of_its_namesake(tmp_path, draw):
    draw(tmp_path / "a.jpg")
    (tmp_path / "a.png").write_bytes(b"broken")

    assert [s.source.name for s in scan_folder(tmp_path).samples] == ["a.jpg"]


def test_the_same_content_is_trained_once_unless_captions_differ(tmp_path, draw):
    draw(tmp_path / "a.png")
    draw(tmp_path / "b.png")
    draw(tmp_path / "c.png")
    (tmp_path / "c.txt").write_text("said otherwise")

    image_set = scan_folder(tmp_path)

    assert names(image_set) == ["a", "c"]
    assert reasons(image_set.skipped) == {"b.png": "the same image and caption as a"}
    assert reasons(image_set.notes) == {"c.png": "the same image as a, with another caption"}
    assert [sample.name for sample in image_set.duplicates] == ["b"]
    everything = (*image_set.samples, *image_set.duplicates)
    earlier = {name: first.name for name, first in same_content(everything).items()}
    assert earlier == {"b": "a", "c": "a"}


def test_captions_in_other_encodings_are_read_and_named(tmp_path, draw):
    texts = {
        "utf-16": "a café",
        "cp1252": "a café in Malmö",
        "cp932": "赤い髪の少女、笑顔",
        "gb18030": "一只红色的猫坐在长椅上",
    }
    for seed, (encoding, text) in enumerate(texts.items()):
        draw(tmp_path / f"{encoding}.png", seed=seed)
        (tmp_path / f"{encoding}.txt").write_bytes(text.encode(encoding))
    draw(tmp_path / "marked.png", seed=9)
    (tmp_path / "marked.txt").write_text("with a byte order mark", encoding="utf-8-sig")

    image_set = scan_folder(tmp_path)

    captions = {s.name: s.caption for s in image_set.samples}
    assert captions == {**texts, "marked": "with a byte order mark"}
    said = reasons(image_set.notes)
    assert said.keys() == {f"{encoding}.txt" for encoding in texts}
    for encoding in texts:
        assert f"read as {encoding}" in said[f"{encoding}.txt"]


def test_an_endless_caption_file_is_cut(tmp_path, draw):
    draw(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("word " * 100_000)

    image_set = scan_folder(tmp_path)

    assert len(image_set.samples[0].caption) < 20_000
    assert "longer than" in image_set.notes[0].text


def test_metadata_fills_in_where_there_is_no_caption_file(tmp_path, draw):
    draw(tmp_path / "a.png")
    draw(tmp_path / "b.png", seed=1)
    draw(tmp_path / "3_cat" / "c.png", seed=2)
    (tmp_path / "a.txt").write_text("from the file")
    (tmp_path / "metadata.jsonl").write_text(
        '{"file_name": "a.png", "text": "from metadata"}\n'
        '{"file_name": "b.png", "text": "b from metadata"}\n'
        '{"file_name": "3_cat/c.png", "text": "c from metadata"}\n'
    )

    captions = [s.caption for s in scan_folder(tmp_path).samples]

    assert captions == ["from the file", "b from metadata", "c from metadata"]


def test_masks_are_found_and_never_taken_for_pictures(tmp_path, draw):
    for seed, name in enumerate(("a.png", "b.jpg", "c.png", "d.png", "e.png")):
        draw(tmp_path / name, (40, 20), seed=seed)
    draw(tmp_path / "a-masklabel.png", (40, 20), mode="L")
    draw(tmp_path / "b.jpg.mask.png", (80, 40), mode="L")
    draw(tmp_path / "masks" / "c.jpg", (40, 20), mode="L")
    draw(tmp_path / "d.mask.png", (20, 40), mode="L")
    draw(tmp_path / "stray.mask.png", (40, 20), mode="L")
    draw(tmp_path / "3_x" / "f.png", (40, 20), seed=8)
    draw(tmp_path / "3_x" / "masks" / "f.png", (40, 20), mode="L")

    image_set = scan_folder(tmp_path)

    found = {s.name: s.mask and s.mask.relative_to(tmp_path).as_posix() for s in image_set.samples}
    assert found == {
        "3_x/f": "3_x/masks/f.png",
        "a": "a-masklabel.png",
        "b": "b.jpg.mask.png",
        "c": "masks/c.jpg",
        "d": None,
        "e": None,
    }
    said = reasons(image_set.notes)
    assert said["d.mask.png"] == (
        "this mask is not used: its shape 20x40 is not that of its image, 40x20"
    )
    assert said["stray.mask.png"] == "this mask has no image of its name"


def test_alpha_is_a_mask_only_where_something_is_transparent(tmp_path, draw):
    draw(tmp_path / "opaque.png", mode="RGBA")
    pixels = np.full((16, 16, 4), 200, np.uint8)
    Image.fromarray(pixels).save(tmp_path / "sheer.png")

    image_set = scan_folder(tmp_path)

    assert [s.mask for s in image_set.samples] == [None, "alpha"]
    assert "alpha channel" in image_set.notes[0].text


def test_exif_orientation_turns_width_and_height(tmp_path, draw):
    exif = Image.Exif()
    exif[0x0112] = 6
    draw(tmp_path / "phone.jpg", (64, 48), exif=exif)

    [sample] = scan_folder(tmp_path).samples

    assert (sample.width, sample.height) == (48, 64)


def test_an_unreadable_subfolder_does_not_stop_the_scan(tmp_path, draw, monkeypatch):
    draw(tmp_path / "a.png")
    (tmp_path / "3_locked").mkdir()
    listing = type(tmp_path).iterdir

    def refuse(path):
        if path.name == "3_locked":
            raise PermissionError("locked")
        return listing(path)

    monkeypatch.setattr(type(tmp_path), "iterdir", refuse)

    image_set = scan_folder(tmp_path)

    assert names(image_set) == ["a"]
    assert "cannot be read" in reasons(image_set.skipped)["3_locked"]


def test_stamp_follows_any_change_of_a_file(tmp_path, draw):
    path = draw(tmp_path / "a.png")
    seen = {folder_stamp(tmp_path)}
    (tmp_path / "a.txt").write_text("one")
    seen.add(folder_stamp(tmp_path))
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))
    seen.add(folder_stamp(tmp_path))

    assert len(seen) == 3
    assert folder_stamp(tmp_path) in seen
    with pytest.raises(ValueError, match="does not exist"):
        folder_stamp(tmp_path / "nowhere")
