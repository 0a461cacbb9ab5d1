"""Mirrors trustopt/data/export.py and manifest.py: a set written to a folder is the same set."""

import json

import numpy as np
import pytest
from PIL import Image

from trustopt.data import image_set_from_arrays, scan_folder
from trustopt.data.export import (
    check_same_pictures,
    common_folder,
    shared_repeats,
    split_regularisation,
    write_pictures,
)
from trustopt.data.manifest import check_manifest, write_manifest


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Return a folder with every way to give captions and masks."""
    root = tmp_path / "set"
    (root / "3_red_cat").mkdir(parents=True)
    (root / "10_dog" / "masks").mkdir(parents=True)
    for index, place in enumerate(["a.b", "z", "3_red_cat/c", "10_dog/d"]):
        Image.fromarray(noise(40, 56, 3, seed=index)).save(root / f"{place}.png")
    Image.fromarray(noise(40, 56, 3, seed=9)).save(root / "photo.jpg", quality=80)
    (root / "a.b.txt").write_text("first,\nsecond [trigger]")
    (root / "z.caption").write_bytes("春の猫".encode("cp932"))
    (root / "metadata.jsonl").write_text('{"file_name": "photo.jpg", "tags": ["x", "y"]}')
    Image.fromarray(noise(40, 56, seed=5)).save(root / "a.b-masklabel.png")
    Image.fromarray(noise(40, 56, seed=6)).save(root / "10_dog" / "masks" / "d.webp", lossless=True)
    Image.fromarray(noise(40, 56, 4, seed=7)).save(root / "clear.png")
    return root


@pytest.mark.parametrize("repeats", [1, 4])
def test_a_copied_folder_is_the_same_set(folder, tmp_path, repeats) -> None:
    images = scan_folder(folder, trigger_word="zork", repeats=repeats)
    assert len(images.samples) == 6
    assert shared_repeats(images.samples) == repeats
    assert common_folder(images.samples) == folder
    write_pictures(images.samples, tmp_path / "copy")
    copy = scan_folder(tmp_path / "copy", trigger_word="zork", repeats=repeats)
    check_same_pictures(images.samples, copy.samples)
    assert copy.fingerprint() != scan_folder(tmp_path / "copy").fingerprint()
    assert [s.name for s in copy.samples] == [s.name for s in images.samples]
    assert [s.digest for s in copy.samples] == [s.digest for s in images.samples]


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("masked", [False, True])
def test_written_arrays_are_the_same_set(tmp_path, channels, masked) -> None:
    arrays = [noise(24, 32, channels, seed=seed) for seed in range(11)]
    masks = [noise(24, 32, seed=20 + seed) for seed in range(11)] if masked else []
    images = image_set_from_arrays(
        arrays, [f"picture {n}" for n in range(11)], name="../bad: name", masks=masks, repeats=2
    )
    assert common_folder(images.samples) is None
    write_pictures(images.samples, tmp_path / "written")
    read = scan_folder(tmp_path / "written", repeats=shared_repeats(images.samples))
    check_same_pictures(images.samples, read.samples)
    assert {path.parent for path in tmp_path.rglob("*.png")} == {tmp_path / "written"}


def test_pictures_without_captions_stay_without(tmp_path) -> None:
    images = image_set_from_arrays([noise(24, 32, 3)])
    write_pictures(images.samples, tmp_path / "written")
    assert scan_folder(tmp_path / "written").samples[0].caption == ""


def test_regularisation_pictures_are_told_apart(folder, tmp_path) -> None:
    images = scan_folder(folder).with_regularisation(scan_folder(folder))
    learned, others = split_regularisation(images)
    assert (len(learned), len(others)) == (6, 6)
    assert common_folder(others) == folder
    assert shared_repeats(others) == 1
    write_pictures(others, tmp_path / "copy")
    both = scan_folder(folder).with_regularisation(scan_folder(tmp_path / "copy"))
    check_same_pictures(images.samples, both.samples)


def test_differences_are_named(folder, tmp_path) -> None:
    images = scan_folder(folder)
    place = tmp_path / "copy"
    write_pictures(images.samples, place)
    changes = {
        "caption": lambda: (place / "z.txt").write_text("other"),
        "content": lambda: Image.fromarray(noise(40, 56, 3, seed=99)).save(place / "z.png"),
        "mask": lambda: Image.new("L", (56, 40), 3).save(place / "z-masklabel.png"),
        "repeats": lambda: (place / "10_dog").rename(place / "11_dog"),
    }
    for word, change in changes.items():
        change()
        with pytest.raises(ValueError, match=rf"has another [\w ]*{word}"):
            check_same_pictures(images.samples, scan_folder(place).samples)
        for path in sorted(place.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        write_pictures(images.samples, place)
    same = image_set_from_arrays([noise(24, 32, 3)] * 2)
    write_pictures(same.samples, tmp_path / "twins")
    with pytest.raises(ValueError, match="the same picture with the same caption counts once"):
        check_same_pictures(same.samples, scan_folder(tmp_path / "twins").samples)


def test_repeats_that_no_folder_has_are_refused(folder) -> None:
    first, second = scan_folder(folder), scan_folder(folder, repeats=3)
    with pytest.raises(ValueError, match="are repeated by different numbers"):
        shared_repeats(first.samples + second.samples)


def test_a_manifest_accepts_its_set_and_names_what_changed(folder, tmp_path) -> None:
    manifest = tmp_path / "manifest.json"
    images = scan_folder(folder, trigger_word="zork")
    write_manifest(images, manifest)
    check_manifest(images, manifest)
    check_manifest(scan_folder(folder, trigger_word="zork"), manifest)
    cases = {
        "the trigger word is 'other', in manifest.json it is 'zork'": scan_folder(
            folder, trigger_word="other"
        ),
        "a.b has another number of repeats": scan_folder(folder, trigger_word="zork", repeats=2),
    }
    (folder / "z.png").rename(folder / "y.png")
    (folder / "z.caption").unlink()
    (folder / "photo.txt").write_text("new")
    cases["photo has another caption"] = scan_folder(folder, trigger_word="zork")
    (folder / "y.png").unlink()
    cases["set has 5 pictures, manifest.json lists 6 \\(z is gone\\)"] = scan_folder(
        folder, trigger_word="zork"
    )
    for words, others in cases.items():
        with pytest.raises(ValueError, match=words):
            check_manifest(others, manifest)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"pictures": 1, "trigger_word": ""}', json.dumps({"pictures": []})]
)
def test_a_broken_manifest_is_named(folder, tmp_path, text) -> None:
    path = tmp_path / "m.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="cannot be read"):
        check_manifest(scan_folder(folder), path)
    with pytest.raises(ValueError, match=r"gone\.json cannot be read"):
        check_manifest(scan_folder(folder), tmp_path / "gone.json")
