import json

import pytest

from trustopt.data.metadata import read_metadata


def test_reads_json_lines_of_all_dialects(tmp_path):
    lines = [
        {"file_name": "a.png", "text": "hugging face"},
        {"image_path": "C:\\pictures\\b.jpg", "caption": "musubi"},
        {"image_path": "sub/c.jpg", "caption": "with", "tags": ["x", "y"]},
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n")

    captions, notes = read_metadata(tmp_path)

    assert captions["a.png"] == captions["a"] == "hugging face"
    assert captions["b.jpg"] == "musubi"
    assert captions["sub/c.jpg"] == "with, x, y"
    assert not notes


def test_reads_kohya_json_by_path_or_stem(tmp_path):
    entries = {"/train/a.png": {"caption": "a cat", "tags": "cat, red"}, "b": {"tags": "dog"}}
    (tmp_path / "meta_cap.json").write_text(json.dumps(entries))

    captions, notes = read_metadata(tmp_path)

    assert captions["a"] == "a cat, cat, red"
    assert captions["b"] == "dog"
    assert not notes


def test_the_first_file_wins(tmp_path):
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "lines"}')
    (tmp_path / "metadata.json").write_text('{"a.png": "object"}')

    assert read_metadata(tmp_path)[0]["a.png"] == "lines"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{broken", "metadata.jsonl line 1: not read, its JSON is broken"),
        ("[1]", "metadata.jsonl line 1: not read: expected a JSON object, found list"),
        ('{"text": "whose?"}', "metadata.jsonl line 1: names no picture"),
    ],
)
def test_a_bad_line_is_named_and_the_next_is_read(tmp_path, text, complaint):
    good = '{"file_name": "a.png", "text": "good"}'
    (tmp_path / "metadata.jsonl").write_text(f"{text}\n{good}")

    captions, notes = read_metadata(tmp_path)

    assert captions["a"] == "good"
    assert f"{notes[0].file}: {notes[0].text}".startswith(complaint)


def test_deep_nesting_and_wrong_encodings_do_not_crash(tmp_path):
    (tmp_path / "metadata.json").write_text("[" * 100_000)
    (tmp_path / "metadata.jsonl").write_bytes(b"\xff\xfe\x00")

    captions, notes = read_metadata(tmp_path)

    assert not captions
    assert {note.file for note in notes} == {"metadata.json", "metadata.jsonl"}
