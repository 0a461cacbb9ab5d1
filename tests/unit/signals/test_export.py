import csv
import math
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trustopt.signals.durable import replace_file
from trustopt.signals.export import write_csv, write_png, write_table
from trustopt.signals.table import Signals

RUN = Signals(
    "a",
    {
        "step": np.array([1, 2]),
        "loss": np.array([0.1 + 0.2, math.nan]),
        "val/loss": np.array([math.nan, math.inf]),
    },
)


def read(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_csv_of_one_run(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", RUN)

    rows = read(tmp_path / "a.csv")
    assert rows == [
        ["step", "loss", "val/loss"], ["1", "0.30000000000000004", ""], ["2", "", "inf"],
    ]  # fmt: skip
    assert float(rows[1][1]) == 0.1 + 0.2


def test_csv_of_several_runs(tmp_path: Path) -> None:
    other = Signals('a, "b"', {"step": np.array([5]), "lr": np.array([1e-4])})
    write_csv(tmp_path / "a.csv", [RUN, other, RUN])

    rows = read(tmp_path / "a.csv")
    assert rows[0] == ["run", "step", "loss", "val/loss", "lr"]
    assert [row[:2] for row in rows[1:]] == [
        ["a", "1"], ["a", "2"], ['a, "b"', "5"], ["a (2)", "1"], ["a (2)", "2"],
    ]  # fmt: skip
    assert rows[3][2:] == ["", "", "0.0001"]


def test_png_is_the_picture(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (12, 34, 3), np.uint8)
    write_png(tmp_path / "a.png", picture)

    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG"
        np.testing.assert_array_equal(np.asarray(image), picture)


@pytest.mark.parametrize(
    "picture", [np.zeros((3, 4)), np.zeros((3, 4, 3)), np.zeros((3, 4, 4), np.uint8)]
)
def test_other_arrays_are_no_pictures(tmp_path: Path, picture: np.ndarray) -> None:
    with pytest.raises(ValueError, match="a picture is uint8"):
        write_png(tmp_path / "a.png", picture)
    assert not list(tmp_path.iterdir())


def test_a_file_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    replace_file(path, b"old")
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"

    def fail(*args: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        replace_file(path, b"never")

    assert path.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_table_reads_back(tmp_path: Path) -> None:
    rows = [["input_blocks.0", 0.1 + 0.2, math.nan], ['a "b", c', 1, math.inf]]
    write_table(tmp_path / "a.csv", ["block", "first", "second"], rows)

    assert read(tmp_path / "a.csv") == [
        ["block", "first", "second"],
        ["input_blocks.0", "0.30000000000000004", ""],
        ['a "b", c', "1", "inf"],
    ]
