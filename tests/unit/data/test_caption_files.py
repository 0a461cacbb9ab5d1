import pytest

from trustopt.data.caption_files import (
    ORIGINALS,
    caption_extensions,
    caption_target,
    caption_writes,
)
from trustopt.data.captions import LONGEST, read_caption
from trustopt.data.folder import scan_folder

TXT = caption_extensions(".txt")


def save(target, caption, before):
    """Do what the nodes do with the files to write."""
    for path, content in caption_writes(target, caption, before):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)


@pytest.mark.parametrize("asked", ["tags", ".tags", " tags "])
def test_the_extension_asked_for_comes_first(asked):
    assert caption_extensions(asked) == (".tags", ".txt", ".caption")


def test_an_extension_is_no_path_and_no_pictures():
    for asked in ("/../../x.txt", "..\\x", "a/b", ".png", "JPG"):
        with pytest.raises(ValueError, match="caption_extension must be one such as"):
            caption_extensions(asked)


def test_a_caption_goes_where_it_was_read_or_to_a_new_file(tmp_path):
    picture = tmp_path / "a.b.png"
    assert caption_target(picture, TXT) == tmp_path / "a.b.txt"
    (tmp_path / "a.b.caption").write_text("x")
    assert caption_target(picture, TXT) == tmp_path / "a.b.caption"
    (tmp_path / "a.b.txt").write_text("x")
    assert caption_target(picture, TXT) == tmp_path / "a.b.txt"
    assert caption_target(picture, caption_extensions("tags")) == tmp_path / "a.b.txt"


@pytest.mark.parametrize("asked", [".py", ".safetensors", "", ".json"])
def test_nothing_but_caption_files_is_written(tmp_path, asked):
    with pytest.raises(ValueError, match=r"captions are not written to .* files: set"):
        caption_target(tmp_path / "a.png", caption_extensions(asked))


def test_the_first_caption_is_kept_once_byte_for_byte(tmp_path):
    target = tmp_path / "a.txt"
    target.write_bytes("caf\xe9,\r\nred".encode("cp1252"))
    save(target, "a red  café\n", "café, red")
    save(target, "a blue café", "a red café")

    assert target.read_text(encoding="utf-8") == "a blue café\n"
    assert (tmp_path / ORIGINALS / "a.txt").read_bytes() == b"caf\xe9,\r\nred"


def test_a_caption_that_was_in_no_file_is_kept_too(tmp_path):
    target = tmp_path / "a.txt"
    save(target, "mine", "from metadata")
    save(target, "mine again", "mine")
    assert read_caption(tmp_path / ORIGINALS / "a.txt") == ("from metadata", "")


def test_an_empty_caption_is_an_empty_file_that_counts(tmp_path, draw):
    draw(tmp_path / "10_zxq cat" / "a.png")
    [sample] = scan_folder(tmp_path).samples
    assert sample.caption == "zxq cat"
    save(caption_target(sample.source, TXT), " \n", sample.caption)
    [sample] = scan_folder(tmp_path).samples
    assert sample.caption == ""


def test_a_caption_longer_than_is_read_is_refused(tmp_path):
    target = tmp_path / "a.txt"
    with pytest.raises(ValueError, match=f"is {LONGEST} bytes long, more than {LONGEST - 1}"):
        caption_writes(target, "x" * LONGEST, "")
    save(target, "x" * (LONGEST - 1), "")
    assert read_caption(target) == ("x" * (LONGEST - 1), "")
