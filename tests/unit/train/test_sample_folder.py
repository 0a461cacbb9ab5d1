"""Mirrors trustopt/train/sample_folder.py: what is on disk, and what a resumed run makes of it."""

import errno
import json

import numpy as np
import pytest
from PIL import Image

from trustopt.signals.picture_grid import CELL, GAP, HEADING, LABEL
from trustopt.train import sample_folder
from trustopt.train.sample_folder import GRID, INDEX, SampleFolder, read_index, read_picture

PROMPTS = ("a fox", "a panda")


def pictures(shade: int) -> list[np.ndarray]:
    return [np.full((64, 64, 3), (shade, number, 0), np.uint8) for number in (10, 20)]


def cell_of(folder, row: int, column: int) -> list[int]:
    """Return the colour in the middle of a cell of the grid."""
    x = LABEL + GAP + column * (CELL + GAP) + CELL // 2
    y = HEADING + row * (CELL + GAP) + CELL // 2
    return read_picture(folder / GRID)[y, x].tolist()


def test_each_picture_is_a_file_and_all_are_a_grid(tmp_path) -> None:
    folder = SampleFolder(tmp_path / "samples", step=0)
    folder.add(0, PROMPTS, pictures(1))
    added = folder.add(250, PROMPTS, pictures(2), [{"note": "one"}, {"note": "zwei, 二"}])

    assert [(p.file, p.step, p.number, p.prompt) for p in added] == [
        ("step_000250_01.png", 250, 1, "a fox"),
        ("step_000250_02.png", 250, 2, "a panda"),
    ]
    assert (read_picture(folder.path / added[1].file) == pictures(2)[1]).all()
    with Image.open(folder.path / added[1].file) as image:
        assert image.text == {"note": "zwei, 二"}
    with Image.open(folder.path / "step_000000_01.png") as image:
        assert image.text == {}
    assert read_index(folder.path) == folder.pictures
    assert [picture.step for picture in folder.pictures] == [0, 0, 250, 250]
    assert cell_of(folder.path, 1, 0) == [1, 20, 0]
    assert cell_of(folder.path, 0, 1) == [2, 10, 0]


def test_a_resumed_run_goes_on_and_forgets_what_it_will_make_again(tmp_path) -> None:
    path = tmp_path / "samples"
    first = SampleFolder(path, step=0)
    for step in (0, 100, 200, 300):
        first.add(step, PROMPTS, pictures(step // 10))
    resumed = SampleFolder(path, step=200)
    assert {picture.step for picture in resumed.pictures} == {0, 100, 200}
    resumed.add(250, PROMPTS, pictures(99))
    assert {picture.step for picture in read_index(path)} == {0, 100, 200, 250}
    assert [cell_of(path, 0, column)[0] for column in range(4)] == [0, 10, 20, 99]


def test_other_prompts_on_resume_leave_empty_places(tmp_path) -> None:
    path = tmp_path / "samples"
    SampleFolder(path, step=0).add(0, PROMPTS, pictures(1))
    SampleFolder(path, step=0).add(50, ("a panda", "a wolf"), pictures(2))
    assert cell_of(path, 0, 0) == [1, 20, 0]
    assert cell_of(path, 0, 1) == [2, 10, 0]
    assert cell_of(path, 1, 0) == [255, 255, 255]


@pytest.mark.parametrize("text", ["", "[]", '{"pictures": [{"file": 1}]}', "{"])
def test_a_broken_index_is_started_anew(tmp_path, text, caplog) -> None:
    (tmp_path / INDEX).write_text(text)
    folder = SampleFolder(tmp_path, step=10)
    assert folder.pictures == []
    assert "cannot be read" in caplog.text
    folder.add(10, PROMPTS, pictures(3))
    assert len(read_index(tmp_path)) == 2


def test_pictures_that_are_gone_leave_empty_places(tmp_path) -> None:
    SampleFolder(tmp_path, step=0).add(0, PROMPTS, pictures(1))
    (tmp_path / "step_000000_01.png").unlink()
    (tmp_path / "step_000000_02.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    SampleFolder(tmp_path, step=0).add(10, PROMPTS, pictures(2))
    assert cell_of(tmp_path, 0, 0) == cell_of(tmp_path, 1, 0) == [255, 255, 255]
    assert cell_of(tmp_path, 1, 1) == [2, 20, 0]


def test_a_full_disk_leaves_the_index_and_grid_of_before(tmp_path, monkeypatch) -> None:
    folder = SampleFolder(tmp_path, step=0)
    folder.add(0, PROMPTS, pictures(1))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sample_folder, "replace_file", full)
    with pytest.raises(OSError, match="No space"):
        folder.add(10, PROMPTS, pictures(2))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert json.loads(before[INDEX])["pictures"][0]["step"] == 0
