import json
import logging
import math
from pathlib import Path

import pytest

from trustopt.signals.jsonl import Lines, encode, encode_row, read_lines
from trustopt.signals.table import Event


def test_every_line_is_strict_json() -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    line = encode_row(3, {"loss": math.nan, "a": math.inf, "b": -math.inf, "lr": 1e-4})

    parsed = json.loads(line, parse_constant=refuse)
    assert parsed == {"step": 3, "loss": "NaN", "a": "Infinity", "b": "-Infinity", "lr": 1e-4}


def test_round_trip_is_exact(tmp_path: Path) -> None:
    values = {"loss": 0.1 + 0.2, "tiny": 5e-324, "huge": 1.7976931348623157e308, "bad": math.inf}
    lines = Lines(rows=[(1, values), (2, {"loss": -0.0})], events=[Event(1, "save")])
    path = tmp_path / "signals.jsonl"
    path.write_bytes(encode(lines))

    again = read_lines(path)

    assert again.rows == lines.rows
    assert math.copysign(1.0, again.rows[1][1]["loss"]) == -1.0
    assert again.events == lines.events


def test_events_stand_after_their_step() -> None:
    lines = Lines(
        rows=[(1, {}), (2, {})], events=[Event(2, "stop"), Event(1, "save"), Event(0, "resume")]
    )

    records = [json.loads(line) for line in encode(lines).splitlines()]

    assert [(record["step"], record.get("event")) for record in records] == [
        (0, "resume"), (1, None), (1, "save"), (2, None), (2, "stop"),
    ]  # fmt: skip


@pytest.mark.parametrize("torn", ['{"step": 3, "lo', '{"step": 3, "loss": 0.', '{"st', "{"])
def test_a_torn_last_line_is_left_out(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "signals.jsonl"
    path.write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.4}\n' + torn)

    lines = read_lines(path)

    assert [step for step, _ in lines.rows] == [1, 2]
    assert lines.num_unreadable == 0


def test_a_whole_last_line_without_its_newline_counts(tmp_path: Path) -> None:
    path = tmp_path / "signals.jsonl"
    path.write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.4}')

    assert read_lines(path).rows == [(1, {"loss": 0.5}), (2, {"loss": 0.4})]


@pytest.mark.parametrize(
    "foreign",
    [
        "not json", "[1, 2]", "7", '{"loss": 0.5}', '{"step": "2"}', '{"step": true}',
        '{"step": 2.5}',
        '{"step": 2, "loss": "many"}', '{"step": 2, "loss": [1]}', "\udcff",
    ],
)  # fmt: skip
def test_foreign_lines_are_left_out_and_counted(
    tmp_path: Path, foreign: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "signals.jsonl"
    content = '{"step": 1, "loss": 0.5}\n' + foreign + '\n{"step": 3, "loss": 0.4}\n'
    path.write_bytes(content.encode(errors="surrogateescape"))

    with caplog.at_level(logging.WARNING, logger="trustopt"):
        lines = read_lines(path)

    assert [step for step, _ in lines.rows] == [1, 3]
    assert lines.num_unreadable == 1
    assert "1 unreadable line" in caplog.text


def test_a_file_continued_without_being_cut_keeps_the_later_lines(tmp_path: Path) -> None:
    path = tmp_path / "signals.jsonl"
    rows = [(1, 0.1), (2, 0.2), (3, 0.3), (2, 0.22), (3, 0.33)]
    path.write_bytes(b"".join(encode_row(step, {"loss": loss}) for step, loss in rows))

    assert read_lines(path).rows == [(1, {"loss": 0.1}), (2, {"loss": 0.22}), (3, {"loss": 0.33})]
