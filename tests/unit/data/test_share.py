"""Mirrors trustopt/data/share.py: several processes fill one cache."""

import numpy as np

from trustopt.config import DataConfig
from trustopt.data import fill_cache, image_set_from_arrays, prepare, scan_folder

CONFIG = DataConfig(resolution=64, bucket_step=16, caption_dropout=0.1)


def quiet(stage, done, total) -> None:
    pass


def fill(image_set, host, folder, rank, *, progress=quiet) -> None:
    takes = [lambda turn: turn % 2 == 0, lambda turn: turn % 2 == 1][rank]
    fill_cache(image_set, CONFIG, host, takes=takes, cache_dir=folder, progress=progress)


def test_each_picture_and_caption_is_encoded_by_one(host, tmp_path) -> None:
    pixels = [np.full((64, 64, 3), 10 * i, np.uint8) for i in range(5)]
    image_set = image_set_from_arrays(pixels, [f"number {i}" for i in range(5)])
    hosts, told = [type(host)(), type(host)()], []
    for rank, one in enumerate(hosts):
        fill(image_set, one, tmp_path, rank, progress=lambda *words: told.append(words))

    assert [len(one.encoded_shapes) for one in hosts] == [3, 2]
    texts = [text for one in hosts for text in one.encoded_captions]
    assert sorted(texts) == ["", *(f"number {i}" for i in range(5))]
    assert told[:3] == [("encoding images", done, 3) for done in (1, 2, 3)]

    prepare(image_set, CONFIG, host, cache_dir=tmp_path, seed=0, progress=quiet)
    assert (host.encoded_shapes, host.encoded_captions) == ([], [])


def test_a_picture_that_cannot_be_read_is_left_to_who_says_so(host, tmp_path, draw) -> None:
    for name in ("a", "b", "c"):
        draw(tmp_path / "pictures" / f"{name}.png", seed=ord(name))
    image_set = scan_folder(tmp_path / "pictures")
    (tmp_path / "pictures" / "c.png").write_bytes(b"no longer a picture")

    for rank in range(2):
        fill(image_set, host, tmp_path / "cache", rank)
    cache = tmp_path / "cache"
    prepared = prepare(image_set, CONFIG, host, cache_dir=cache, seed=0, progress=quiet)
    assert [sample.name for sample in prepared.samples] == ["a", "b"]
    assert [note.file for note in prepared.image_set.skipped] == ["c"]
