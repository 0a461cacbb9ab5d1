"""The caption editor, used as a user does: in real pages, in both renderers."""

import json
import urllib.error
import urllib.request

import pytest
from PIL import Image
from trustopt_test_graphs import EXAMPLE, Canvas, training_graph

ORIGINALS = ".trustopt-originals"
ROUTE = "/trustopt/captions"


@pytest.fixture
def cats(server, request) -> str:
    """Six pictures below input: one without a caption, one the copy of another."""
    name = f"captions/{request.node.name.replace('[', '_').rstrip(']')}"
    folder = server.folder / "input" / name
    folder.mkdir(parents=True)
    for index in range(5):
        Image.new("RGB", (96, 64), (40 * index, 90, 200)).save(folder / f"p{index}.png")
        if index < 4:
            (folder / f"p{index}.txt").write_text(f"a cat, number {index}")
    (folder / "p9.png").write_bytes((folder / "p0.png").read_bytes())
    (folder / "p9.txt").write_text("a cat, number 0")
    return name


@pytest.fixture
def classic(page):
    """A page in the classic renderer: the dialog is the same in both."""
    drawing = Canvas(page)
    yield drawing
    assert drawing.errors == []


class Editor:
    """The open dialog."""

    def __init__(self, page, server) -> None:
        self.page, self.server = page, server
        self.dialog = page.locator("dialog.trustopt-captions")
        self.rows = self.dialog.locator(".trustopt-caption")
        self.rows.first.wait_for()

    def box(self, name: str):
        return self.dialog.get_by_label(f"Caption of {name}", exact=True)

    def row(self, name: str):
        return self.rows.filter(has=self.page.get_by_label(f"Caption of {name}", exact=True))

    def press(self, name: str) -> None:
        self.dialog.get_by_role("button", name=name, exact=True).click()

    def texts(self) -> dict[str, str]:
        boxes = self.dialog.locator("textarea").evaluate_all(
            "(boxes) => boxes.map((b) => [b.getAttribute('aria-label'), b.value])"
        )
        return {label.removeprefix("Caption of "): value for label, value in boxes}

    def shown(self) -> list[str]:
        rows = self.dialog.locator(".trustopt-caption:not([hidden])")
        assert rows.count() == self.rows.locator("visible=true").count()
        return rows.locator("b").all_text_contents()

    def badges(self, name: str) -> list[str]:
        return self.row(name).locator(".trustopt-badge").all_inner_texts()

    def wait_for_status(self, text: str) -> None:
        self.dialog.locator("footer").get_by_text(text, exact=True).wait_for()

    def wait_for_notice(self, text: str) -> None:
        self.dialog.locator(".trustopt-notice").get_by_text(text).wait_for()


def opened(canvas: Canvas, server, folder: str, **preset) -> Editor:
    """Draw a graph with a folder, and press the node's button."""
    canvas.draw(training_graph("trainer", folder=folder, **preset))
    button = canvas.page.get_by_role("button", name="Edit captions")
    if button.count():  # Nodes 2.0 has elements, the classic canvas draws its own
        button.click()
    else:
        canvas.choose("images", "edit_captions", None)
    return Editor(canvas.page, server)


def on_disk(server, folder: str) -> dict[str, str]:
    paths = (server.folder / "input" / folder).rglob("*.txt")
    root = server.folder / "input" / folder
    return {p.relative_to(root).as_posix(): p.read_text(encoding="utf-8") for p in paths}


def test_a_caption_is_edited_and_saved_by_the_keyboard(canvas, server, cats, pictures) -> None:
    before = on_disk(server, cats)
    editor = opened(canvas, server, cats)
    page = canvas.page
    assert editor.texts()["p1"] == "a cat, number 1"
    page.keyboard.press("End")  # the first box has the focus
    page.keyboard.type(", asleep")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    page.keyboard.press("Shift+Enter")
    page.keyboard.press("End")
    page.keyboard.type(" 猫")
    assert editor.badges("p0")[-1] == "not saved"
    pictures.mkdir(exist_ok=True)
    page.screenshot(path=str(pictures / "captions.png"))
    assert on_disk(server, cats) == before

    with page.expect_request(lambda request: "/trustopt/plan?" in request.url):
        page.keyboard.press("Control+s")  # the preset is asked for anew after it
    editor.wait_for_status("Captions saved: 2")
    assert on_disk(server, cats) == before | {
        "p0.txt": "a cat, number 0, asleep\n",
        "p1.txt": "a cat, number 1 猫\n",
        f"{ORIGINALS}/p0.txt": "a cat, number 0",
        f"{ORIGINALS}/p1.txt": "a cat, number 1",
    }
    assert "not saved" not in editor.badges("p0")

    editor.row("p0").get_by_role("button", name="original").click()
    assert editor.texts()["p0"] == "a cat, number 0"
    editor.press("Save")
    editor.wait_for_status("Captions saved: 1")
    assert on_disk(server, cats)["p0.txt"] == "a cat, number 0\n"
    page.keyboard.press("Escape")
    editor.dialog.wait_for(state="detached")


def test_what_is_missing_or_double_is_marked_and_found(classic, server, cats) -> None:
    editor = opened(classic, server, cats, resolution=64)
    assert "6 pictures · without a caption: 1 · duplicates: 1" in editor.dialog.inner_text()
    assert "Buckets as the preset plans them, at 64 px." in editor.dialog.inner_text()
    assert editor.badges("p4") == ["no caption"]
    assert editor.badges("p9") == ["same picture as p0"]
    filters = editor.dialog.get_by_label("Pictures shown")
    everything = ["p0", "p1", "p2", "p3", "p4", "p9"]
    for name, shown in (
        ("missing", ["p4"]),
        ("duplicates", ["p9"]),
        ("enlarged", []),
        ("changed", []),
        ("all", everything),
    ):
        filters.select_option(name)
        assert editor.shown() == shown, name
    editor.page.keyboard.press("Control+f")
    editor.page.keyboard.type("NUMBER 3")
    assert editor.shown() == ["p3"]


def test_many_captions_change_at_once_and_can_be_taken_back(classic, server, cats) -> None:
    before = on_disk(server, cats)
    editor = opened(classic, server, cats)
    page, dialog = classic.page, editor.dialog
    first = editor.texts()
    dialog.get_by_label("Tags", exact=True).fill("fur, A CAT")
    editor.press("Add")
    editor.wait_for_status("Captions changed: 6 of 6")
    assert editor.texts()["p1"] == "a cat, number 1, fur"
    assert editor.texts()["p4"] == "fur, A CAT"

    dialog.get_by_label("Select p1", exact=True).click()
    dialog.get_by_label("Select p3", exact=True).click(modifiers=["Shift"])
    assert "Changes are for the selected pictures: 3." in dialog.inner_text()
    dialog.get_by_label("Tags", exact=True).fill("Fur")
    editor.press("Remove")
    editor.wait_for_status("Captions changed: 3 of 3")
    dialog.get_by_label("Trigger word", exact=True).fill("zxq")
    page.keyboard.press("Enter")
    dialog.get_by_label("Find", exact=True).fill("NUMBER ")
    dialog.get_by_label("Replace by", exact=True).fill("no. $&")
    editor.press("Replace")
    editor.wait_for_status("Captions changed: 3 of 3")
    assert {name: text for name, text in editor.texts().items() if name in ("p0", "p2")} == {
        "p0": "a cat, number 0, fur",
        "p2": "zxq, a cat, no. $&2",
    }
    dialog.get_by_label("match case").check()
    editor.press("Replace")
    editor.wait_for_status("Captions changed: 0 of 3")
    assert on_disk(server, cats) == before

    editor.press("Undo")
    assert editor.texts()["p2"] == "zxq, a cat, number 2"
    for _ in range(3):
        editor.press("Undo")
    assert editor.texts() == first
    assert editor.dialog.get_by_role("button", name="Undo").is_disabled()
    assert editor.dialog.get_by_role("button", name="Save").is_disabled()


def test_what_cannot_be_written_is_said_and_stays_typed(classic, server, cats) -> None:
    folder = server.folder / "input" / cats
    (folder / "p4.txt").mkdir()  # a caption cannot take its place
    (folder / "p2.txt").unlink()
    (folder / "p2.txt").symlink_to(server.folder / "p2.txt")
    (server.folder / "p2.txt").write_text("a cat, number 2")
    editor = opened(classic, server, cats)
    (folder / "p3.txt").write_text("written by another program")
    for name in ("p1", "p2", "p3", "p4"):
        editor.box(name).fill(f"mine {name}")
    editor.press("Save")
    editor.wait_for_status("Captions saved: 1")
    editor.wait_for_notice("Captions not saved: 3.")
    problems = {name: editor.row(name).locator(".trustopt-problem").inner_text()
                for name in ("p1", "p2", "p3", "p4")}  # fmt: skip
    assert problems["p1"] == ""
    assert "is a link" in problems["p2"]
    assert "changed meanwhile" in problems["p3"]
    assert "cannot be written" in problems["p4"]
    assert {n: t for n, t in editor.texts().items() if n in problems} == {
        name: f"mine {name}" for name in problems
    }
    assert (folder / "p3.txt").read_text() == "written by another program"
    assert (server.folder / "p2.txt").read_text() == "a cat, number 2"

    (folder / "p4.txt").rmdir()
    editor.press("Save")  # what was changed meanwhile is replaced now that it was told
    editor.wait_for_notice("Captions not saved: 1.")
    assert (folder / "p3.txt").read_text() == "mine p3\n"
    assert (folder / ORIGINALS / "p3.txt").read_text() == "written by another program"
    assert (folder / "p4.txt").read_text() == "mine p4\n"


def test_nothing_typed_is_lost_when_the_server_cannot_be_reached(classic, server, cats) -> None:
    editor = opened(classic, server, cats)
    page = classic.page
    page.route(f"**{ROUTE}", lambda route: route.abort())
    editor.box("p1").fill("mine")
    page.keyboard.press("Control+s")
    editor.wait_for_notice("Nothing is saved, what you typed is kept:")
    assert editor.texts()["p1"] == "mine"
    page.unroute(f"**{ROUTE}")
    page.keyboard.press("Control+s")
    editor.wait_for_status("Captions saved: 1")
    classic.errors.clear()  # the browser logs the request that this test aborted


def test_closing_asks_for_what_is_not_saved(classic, server, cats) -> None:
    before = on_disk(server, cats)
    editor = opened(classic, server, cats)
    page = classic.page
    editor.box("p1").fill("mine")
    for _ in range(3):  # the question, back, the question
        page.keyboard.press("Escape")
    assert "Captions not saved yet: 1" in editor.dialog.locator("footer").inner_text()
    editor.press("Go on editing")
    assert editor.texts()["p1"] == "mine"
    page.keyboard.press("Escape")
    editor.press("Discard")
    editor.dialog.wait_for(state="detached")
    assert on_disk(server, cats) == before

    editor = opened(classic, server, cats)
    assert editor.texts()["p1"] == "a cat, number 1"
    editor.box("p1").fill("mine")
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")  # Save and close
    editor.dialog.wait_for(state="detached")
    assert on_disk(server, cats)["p1.txt"] == "mine\n"


def test_keys_in_the_dialog_do_nothing_to_the_graph(canvas, server, cats) -> None:
    editor = opened(canvas, server, cats)
    page = canvas.page
    page.evaluate("app.canvas.selectItems?.([...app.graph.nodes])")
    graph = canvas.page.evaluate("JSON.stringify(app.graph.serialize().nodes.map((n) => n.id))")
    editor.dialog.get_by_label("Select p1", exact=True).focus()
    for key in ("Delete", "Backspace", "Control+z", "Control+a", "Control+b", "r", "m"):
        page.keyboard.press(key)
    editor.box("p1").focus()
    page.keyboard.press("Control+ArrowUp")  # ComfyUI's weight of a word in a prompt
    page.wait_for_timeout(300)
    assert editor.texts()["p1"] == "a cat, number 1"
    now = canvas.page.evaluate("JSON.stringify(app.graph.serialize().nodes.map((n) => n.id))")
    assert now == graph


def test_the_example_set_is_shown_and_not_changed(classic, server) -> None:
    editor = opened(classic, server, EXAMPLE)
    editor.wait_for_notice("The example set comes with the pack and is not changed")
    box = editor.dialog.locator("textarea").first
    assert not box.is_editable()
    assert editor.dialog.get_by_role("button", name="Add", exact=True).is_disabled()


def test_a_folder_that_cannot_be_read_says_why(classic, server, cats) -> None:
    classic.draw(training_graph("trainer", folder=cats))
    for path in (server.folder / "input" / cats).glob("*.png"):
        path.write_bytes(b"")
    classic.choose("images", "edit_captions", None)
    notice = classic.page.locator("dialog.trustopt-captions .trustopt-notice")
    notice.get_by_text("holds no usable image").wait_for()
    classic.page.keyboard.press("Escape")
    classic.page.locator("dialog.trustopt-captions").wait_for(state="detached")


def test_hundreds_of_pictures_are_fetched_as_they_come_into_view(vue_page, server) -> None:
    folder = server.folder / "input" / "captions" / "many"
    folder.mkdir(parents=True)
    for index in range(300):
        Image.new("RGB", (32, 32), (index % 256, index // 2, 9)).save(folder / f"p{index:03}.png")
    fetched = []
    vue_page.on("request", lambda r: fetched.append(r.url) if "thumbnail" in r.url else None)
    canvas = Canvas(vue_page)
    editor = opened(canvas, server, "captions/many")
    assert editor.rows.count() == 300
    vue_page.wait_for_load_state("networkidle")
    assert 0 < len(fetched) < 150
    assert editor.row("p000").locator("img").evaluate("(image) => image.naturalWidth") == 32
    editor.box("p299").scroll_into_view_if_needed()
    last = editor.row("p299").locator("img")
    vue_page.wait_for_function("(image) => image.naturalWidth === 32", arg=last.element_handle())
    assert canvas.errors == []


@pytest.mark.parametrize("palette", ["dark", "light"])
def test_it_is_readable_in_every_palette(server, vue_page, cats, pictures, palette) -> None:
    server.post("/settings", {"Comfy.ColorPalette": palette})
    try:
        canvas = Canvas(vue_page)
        canvas.reload()
        editor = opened(canvas, server, cats)
        colours = editor.box("p0").evaluate(
            "(box) => { const [text, own] = [getComputedStyle(box).color,"
            " getComputedStyle(box).backgroundColor];"
            " const canvas = document.createElement('canvas').getContext('2d');"
            " return [text, own].map((c) => { canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1);"
            " return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3) }) }"
        )
        text, background = (luminance(colour) for colour in colours)
        lighter, darker = max(text, background), min(text, background)
        assert (lighter + 0.05) / (darker + 0.05) > 7  # WCAG 2.1, contrast of level AAA
        assert (background > text) == (palette == "light")
        pictures.mkdir(exist_ok=True)
        vue_page.screenshot(path=str(pictures / f"captions_{palette}.png"))
    finally:
        server.post("/settings", {"Comfy.ColorPalette": "dark"})


def luminance(colour: list[int]) -> float:
    """Return the relative luminance of an sRGB colour (WCAG 2.1)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
              for c in (value / 255 for value in colour)]  # fmt: skip
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_what_batch_actions_do_to_a_caption(vue_page) -> None:
    cases = [
        ("addTags", ["a, b", "B, c"], "a, b, c"),
        ("addTags", ["", "x, y"], "x, y"),
        ("addTags", ["a,", "x"], "a, x"),
        ("addTags", ["a ,b", "b"], "a ,b"),
        ("removeTags", ["a, b, B, bb", "b"], "a, bb"),
        ("removeTags", ["a ,b", "c"], "a ,b"),
        ("removeTags", ["a", "a"], ""),
        ("prependTrigger", ["a Zxq cat here", "zxq"], "a Zxq cat here"),
        ("prependTrigger", ["two cats", "cat"], "cat, two cats"),
        ("prependTrigger", ["[trigger] asleep", "zxq"], "[trigger] asleep"),
        ("prependTrigger", ["", "zxq"], "zxq"),
        ("prependTrigger", ["a", " "], "a"),
        ("prependTrigger", ["犬と猫", "猫"], "猫, 犬と猫"),
        ("replaceText", ["A.b axb", "a.B", "$1", False], "$1 axb"),
        ("replaceText", ["Cat cat", "cat", "dog", True], "Cat dog"),
        ("replaceText", ["a", "", "x", False], "a"),
        ("replaceText", ["a (cat:1.2) / b", "(cat:1.2) /", "c", False], "a c b"),
    ]
    results = vue_page.evaluate(
        "async (cases) => { const edits = await import('/extensions/trustopt/captions/edits.js');"
        " return cases.map(([name, given]) => edits[name](...given)) }",
        [case[:2] for case in cases],
    )
    assert results == [expected for _, _, expected in cases]


def post_from(server, origin: dict[str, str], body: dict) -> int:
    request = urllib.request.Request(
        server.url + ROUTE,
        json.dumps(body).encode(),
        {"Content-Type": "application/json", **origin},
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
    ],
)
def test_pages_of_other_sites_cannot_write(server, cats, headers, status) -> None:
    body = {
        "folder": cats,
        "caption_extension": ".txt",
        "captions": [{"name": "p1", "caption": "theirs", "before": "a cat, number 1"}],
    }
    assert post_from(server, headers, body) == status
    changed = on_disk(server, cats)["p1.txt"] != "a cat, number 1"
    assert changed == (status == 200)
    address = f"{ROUTE}/thumbnail?folder={cats}&file=../../../etc/x.png"
    assert server.status_of(address) == 404
