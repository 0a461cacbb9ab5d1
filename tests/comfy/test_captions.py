"""The caption editor's server side: what it lists, what it writes, what it refuses."""

import asyncio
import importlib
import io
import json

import pytest
from PIL import Image
from trustopt_pack.trustopt.data.caption_files import ORIGINALS
from trustopt_test_prompts import EXAMPLE, node, show

import nodes


@pytest.fixture(scope="module", autouse=True)
def builtin_preview_node(pack_nodes) -> None:
    import trustopt_test_graph

    trustopt_test_graph.load_builtin("nodes_preview_any.py")


def own_module(name: str):
    """Return a module of the pack's nodes, of the copy that ComfyUI loaded."""
    package = nodes.NODE_CLASS_MAPPINGS["TrustOpt_Preset"].__module__.rpartition(".")[0]
    return importlib.import_module(f"{package}.{name}")


@pytest.fixture
def cats(comfyui, tmp_path):
    """A folder with captions of every kind: files, metadata, a folder's words, none; a copy."""
    folder = tmp_path / "input" / "cats"
    (folder / "10_zxq cat").mkdir(parents=True)
    for index, name in enumerate(["a", "b", "c", "d", "10_zxq cat/e"]):
        Image.new("RGB", (96, 64), (40 * index, 0, 0)).save(folder / f"{name}.png")
    (folder / "copy.png").write_bytes((folder / "a.png").read_bytes())
    for name in ("a", "copy"):
        (folder / f"{name}.txt").write_text("cat a")
    (folder / "b.caption").write_text("cat b")
    (folder / "metadata.jsonl").write_text(json.dumps({"file_name": "c.png", "text": "cat c"}))
    (folder / "broken.png").write_bytes(b"")
    return folder


def listed(folder: str = "cats", **query) -> dict:
    captions = own_module("captions")
    return captions.list_captions(own_module("prefill").Query(folder=folder, **query))


def by_name(answer: dict) -> dict[str, dict]:
    return {picture["name"]: picture for picture in answer["pictures"]}


def save(name: str, caption: str, before: str, *, folder="cats", extension=".txt") -> dict:
    captions = own_module("captions")
    return captions.save_captions(folder, extension, [captions.Edit(name, caption, before)])


# -- listing -------------------------------------------------------------------------------------


def test_every_picture_is_listed_with_its_caption_and_where_it_is_from(cats) -> None:
    pictures = by_name(listed())
    assert {name: picture["caption"] for name, picture in pictures.items()} == {
        "10_zxq cat/e": "zxq cat", "a": "cat a", "b": "cat b", "c": "cat c", "copy": "cat a",
        "d": "",
    }  # fmt: skip
    files = {name: picture["caption_file"] for name, picture in pictures.items()}
    assert files == {
        "10_zxq cat/e": None, "a": "a.txt", "b": "b.caption", "c": None, "copy": "copy.txt",
        "d": None,
    }  # fmt: skip
    assert [name for name, picture in pictures.items() if picture["same_as"]] == ["copy"]
    assert pictures["copy"]["same_as"] == "a"
    assert {entry["file"] for entry in listed()["skipped"]} == {"broken.png"}
    json.dumps(listed(), allow_nan=False)


def test_buckets_are_those_of_the_preset(cats) -> None:
    usual = listed()
    assert (usual["resolution"], usual["is_planned"]) == (1024, False)
    assert by_name(usual)["a"]["scale"] > 10
    planned = listed(family="sdxl", overrides={"resolution": 64})
    assert (planned["resolution"], planned["is_planned"]) == (64, True)
    width, height = by_name(planned)["a"]["bucket"]
    assert width > height
    assert 0.9 * 64**2 <= width * height <= 64**2
    assert by_name(planned)["a"]["scale"] < 1


def test_the_example_set_can_be_looked_at_and_not_changed(comfyui) -> None:
    answer = listed(EXAMPLE)
    assert len(answer["pictures"]) >= 8
    assert "not changed" in answer["notice"]
    name, caption = answer["pictures"][0]["name"], answer["pictures"][0]["caption"]
    with pytest.raises(ValueError, match="copy its pictures to a folder below input"):
        save(name, "mine", caption, folder=EXAMPLE)


# -- saving --------------------------------------------------------------------------------------


def test_a_caption_is_saved_and_the_first_one_kept(cats) -> None:
    assert save("a", " a black\ncat ", "cat a") == {
        "saved": {"a": {"caption": "a black cat", "file": "a.txt"}},
        "problems": {},
    }
    assert (cats / "a.txt").read_bytes() == b"a black cat\n"
    save("a", "a grey cat", "a black cat")
    assert (cats / ORIGINALS / "a.txt").read_text() == "cat a"
    again = by_name(listed())["a"]
    assert (again["caption"], again["original"]) == ("a grey cat", "cat a")
    assert [path.name for path in cats.glob("*.tmp")] == []


@pytest.mark.parametrize(
    ("name", "before", "file"),
    [
        ("b", "cat b", "b.caption"),
        ("c", "cat c", "c.txt"),
        ("d", "", "d.txt"),
        ("copy", "cat a", "copy.txt"),
        ("10_zxq cat/e", "zxq cat", "10_zxq cat/e.txt"),
    ],
)
def test_it_goes_to_the_file_that_counts(cats, name, before, file) -> None:
    metadata = (cats / "metadata.jsonl").read_bytes()
    assert save(name, "mine", before)["saved"][name]["file"] == file
    assert by_name(listed())[name]["caption"] == "mine"
    assert by_name(listed())[name]["original"] == before
    assert (cats / "metadata.jsonl").read_bytes() == metadata


def test_the_nodes_extension_is_used_for_new_files(cats) -> None:
    assert save("d", "mine", "", extension="tags")["saved"]["d"]["file"] == "d.tags"
    assert by_name(listed(caption_extension="tags"))["d"]["caption"] == "mine"


@pytest.mark.parametrize("extension", [".py", ".json", "", ".jsonl"])
def test_other_files_are_never_written(cats, extension) -> None:
    before = {path: path.read_bytes() for path in cats.rglob("*") if path.is_file()}
    answer = save("d", "mine", "", extension=extension)
    assert "captions are not written to" in answer["problems"]["d"]["text"]
    assert {path: path.read_bytes() for path in cats.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("extension", ["/../../x.txt", ".png", "jpeg"])
def test_an_extension_of_paths_or_pictures_is_refused(cats, extension) -> None:
    picture = (cats / "d.png").read_bytes()
    with pytest.raises(ValueError, match="caption_extension must be one such as"):
        save("d", "mine", "", extension=extension)
    assert (cats / "d.png").read_bytes() == picture


def test_what_changed_meanwhile_is_not_overwritten(cats) -> None:
    (cats / "a.txt").write_text("changed by another program")
    problem = save("a", "mine", "cat a")["problems"]["a"]
    assert problem["caption"] == "changed by another program"
    assert "changed meanwhile" in problem["text"]
    assert (cats / "a.txt").read_text() == "changed by another program"
    assert save("a", "mine", problem["caption"])["saved"]


def test_one_that_fails_does_not_stop_the_others(cats, monkeypatch) -> None:
    captions = own_module("captions")
    original = captions.replace_file

    def refuse(path, content):
        if path.name == "a.txt":
            raise PermissionError(13, "Permission denied")
        original(path, content)

    monkeypatch.setattr(captions, "replace_file", refuse)
    edits = [captions.Edit(name, "mine", before) for name, before in (("a", "cat a"), ("d", ""))]
    edits += [captions.Edit("gone", "mine", ""), captions.Edit("b", "x" * 20_000, "cat b")]
    answer = captions.save_captions("cats", ".txt", edits)
    assert set(answer["saved"]) == {"d"}
    problems = {name: problem["text"] for name, problem in answer["problems"].items()}
    assert "cannot be written (Permission denied): make the folder writable" in problems["a"]
    assert "no longer there" in problems["gone"]
    assert "is 20000 bytes long" in problems["b"]
    assert (cats / "a.txt").read_text() == "cat a"
    assert (cats / "d.txt").read_text() == "mine\n"


def test_links_are_not_written_through(cats, tmp_path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("cat d")
    (cats / "d.txt").symlink_to(secret)
    assert "is a link" in save("d", "mine", "cat d")["problems"]["d"]["text"]
    (tmp_path / "elsewhere").mkdir()
    (cats / ORIGINALS).symlink_to(tmp_path / "elsewhere")
    assert "is a link" in save("a", "mine", "cat a")["problems"]["a"]["text"]
    assert secret.read_text() == "cat d"
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert (cats / "a.txt").read_text() == "cat a"


def test_pictures_beyond_a_link_are_neither_shown_nor_captioned(cats, tmp_path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    Image.new("RGB", (64, 64), (1, 2, 3)).save(outside / "z.png")
    (cats / "5_far").symlink_to(outside, target_is_directory=True)
    (cats / "z.png").symlink_to(outside / "z.png")
    Image.new("RGB", (64, 64), (4, 5, 6)).save(outside / "y.png")
    answer = listed()
    assert {"5_far/z", "5_far/y", "z"}.isdisjoint(by_name(answer))
    left_out = {entry["file"] for entry in answer["skipped"] if "leaves input" in entry["text"]}
    assert left_out == {"5_far/y", "5_far/z", "z"}
    assert "no longer there" in save("5_far/y", "mine", "far")["problems"]["5_far/y"]["text"]
    with pytest.raises(ValueError, match="is no picture"):
        own_module("captions").thumbnail_of("cats", "z.png")
    assert sorted(path.name for path in outside.iterdir()) == ["y.png", "z.png"]


@pytest.mark.parametrize("folder", ["../secret", "/etc", "cats/../../secret", "", "link"])
def test_folders_outside_input_are_refused(cats, tmp_path, folder) -> None:
    (tmp_path / "secret").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "secret" / "a.png")
    (tmp_path / "input" / "link").symlink_to(tmp_path / "secret")
    refused = r"leaves ComfyUI's input folder|no folder of images"
    with pytest.raises(ValueError, match=refused):
        listed(folder)
    with pytest.raises(ValueError, match=refused):
        save("a", "mine", "", folder=folder)
    with pytest.raises(ValueError, match=refused):
        own_module("captions").thumbnail_of(folder, "a.png")
    assert [path.name for path in (tmp_path / "secret").iterdir()] == ["a.png"]


def test_the_folder_is_read_again_after_saving(comfyui, cats) -> None:
    prompt = {"1": node("LoadImageSet", folder="cats"), "2": show(["1", 1])}
    comfyui.run(prompt)
    save("d", "a cat at last", "")
    comfyui.run(prompt)
    assert "1" in comfyui.executed()
    [image_set, *_] = comfyui.outputs("1")
    assert {sample.name: sample.caption for sample in image_set.samples}["d"] == "a cat at last"
    assert len(image_set.samples) == 5  # what is kept of the first captions is no picture


# -- thumbnails ----------------------------------------------------------------------------------


def test_a_thumbnail_is_a_small_jpeg(cats) -> None:
    Image.new("RGB", (2000, 1000), (9, 200, 9)).save(cats / "large.png")
    with Image.open(io.BytesIO(own_module("captions").thumbnail_of("cats", "large.png"))) as image:
        assert (image.format, image.size) == ("JPEG", (256, 128))
    assert own_module("captions").thumbnail_of("cats", "10_zxq cat/e.png")
    assert own_module("captions").thumbnail_of(EXAMPLE, "cat.png")


@pytest.mark.parametrize(
    "file",
    ["a.txt", "metadata.jsonl", "", ".", "../cats/a.png", "../dogs/x.png", "broken.png", "no.png",
     "10_zxq cat", "a\0.png", "/etc/passwd", "{tmp}/secret.png"],
)  # fmt: skip
def test_what_is_no_picture_of_the_folder_has_no_thumbnail(cats, tmp_path, file) -> None:
    (cats.parent / "dogs").mkdir()
    Image.new("RGB", (64, 64)).save(cats.parent / "dogs" / "x.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "secret.png")
    with pytest.raises(ValueError, match=r"is no picture of|empty|damaged|not a picture"):
        own_module("captions").thumbnail_of("cats", file.format(tmp=tmp_path))


# -- routes --------------------------------------------------------------------------------------


class Request:
    """What an aiohttp handler reads of a request."""

    def __init__(self, query=None, body=None, content_type="application/json") -> None:
        self.query, self.body, self.content_type = query or {}, body, content_type

    async def json(self):
        return json.loads(self.body)


def answer_of(handler: str, request: Request) -> tuple[int, dict]:
    response = asyncio.run(getattr(own_module("caption_routes"), handler)(request))
    return response.status, json.loads(response.text)


def test_the_routes_list_and_save(cats) -> None:
    status, answer = answer_of("get_captions", Request({"folder": "cats"}))
    assert (status, len(answer["pictures"])) == (200, 6)
    body = {
        "folder": "cats",
        "caption_extension": ".txt",
        "captions": [{"name": "d", "caption": "猫 😺", "before": ""}],
    }
    status, answer = answer_of("post_captions", Request(body=json.dumps(body)))
    assert (status, answer["saved"]["d"]["caption"]) == (200, "猫 😺")
    assert (cats / "d.txt").read_text(encoding="utf-8") == "猫 😺\n"
    response = asyncio.run(
        own_module("caption_routes").get_thumbnail(Request({"folder": "cats", "file": "a.png"}))
    )
    assert (response.status, response.content_type) == (200, "image/jpeg")


def test_problems_are_answers(cats) -> None:
    status, answer = answer_of("get_captions", Request({"folder": "nothing here"}))
    assert status == 200
    assert "does not exist below" in answer["problem"]
    body = {"folder": "../x", "caption_extension": ".txt", "captions": [
        {"name": "d", "caption": "mine", "before": ""}]}  # fmt: skip
    status, answer = answer_of("post_captions", Request(body=json.dumps(body)))
    assert "leaves ComfyUI's input folder" in answer["problem"]
    assert answer_of("get_thumbnail", Request({"folder": "cats", "file": "a.txt"}))[0] == 404


GOOD = {"name": "d", "caption": "mine", "before": ""}


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "[]",
        json.dumps({"folder": "cats"}),
        json.dumps({"folder": "cats", "caption_extension": ".txt", "captions": []}),
        json.dumps({"folder": "cats", "caption_extension": 1, "captions": [GOOD]}),
        json.dumps({"folder": "cats", "caption_extension": ".txt", "captions": [{"name": "d"}]}),
        json.dumps({"folder": "cats", "caption_extension": ".txt", "captions": [GOOD | {"x": 1}]}),
        json.dumps({"folder": "cats", "caption_extension": ".txt", "captions": ["d"]}),
        json.dumps(
            {"folder": "cats", "caption_extension": ".txt", "captions": [GOOD | {"caption": None}]}
        ),
    ],
)
def test_malformed_requests_are_refused(cats, body) -> None:
    status, answer = answer_of("post_captions", Request(body=body))
    assert status == 400
    assert answer["error"]
    assert not (cats / "d.txt").exists()


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_only_json_is_taken(cats, kind) -> None:
    body = {"folder": "cats", "caption_extension": ".txt", "captions": [GOOD]}
    request = Request(body=json.dumps(body), content_type=kind)
    assert answer_of("post_captions", request)[0] == 415
    assert not (cats / "d.txt").exists()


def test_a_malformed_question_is_refused(comfyui) -> None:
    assert answer_of("get_captions", Request({}))[0] == 400
    assert answer_of("get_captions", Request({"folder": "cats", "colour": "red"}))[0] == 400
