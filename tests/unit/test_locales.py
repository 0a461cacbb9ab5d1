"""Every text is there in every language: nodes, help pages, the extension, messages, the README."""

import ast
import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCALES = ROOT / "locales"
PAGES = ROOT / "web" / "docs"
LANGUAGES = ("ja", "ko", "zh")
ALIKE = {
    *("alpha", "beta1", "beta2", "cfg", "d_coef", "eps", "trust_level"),
    *("+ {number}", "{used} / {total} GiB"),
}
"""English texts that are the same in another language."""

HEADINGS = {"ja": ("入力", "出力"), "ko": ("입력", "출력"), "zh": ("输入", "输出")}
"""Headings of the tables of inputs and outputs of a help page."""

spec = importlib.util.spec_from_file_location("write_locales", ROOT / "tools" / "write_locales.py")
write_locales = importlib.util.module_from_spec(spec)
spec.loader.exec_module(write_locales)


def read(language: str, name: str) -> dict:
    return json.loads((LOCALES / language / f"{name}.json").read_text(encoding="utf-8"))


def definitions(language: str) -> dict[str, str]:
    """Return the texts of the nodes by their dotted keys."""
    return write_locales.flat(read(language, "nodeDefs"))


def english_of_the_page() -> dict[str, str]:
    """Return the English texts of the browser extension."""
    source = (ROOT / "web" / "texts.js").read_text(encoding="utf-8")
    block = source.partition("const ENGLISH = {\n")[2].partition("\n}\n")[0]
    found = dict(re.findall(r'^  (\w+):\s*"((?:[^"\\]|\\.)*)",$', block, re.MULTILINE))
    assert found.keys() == set(re.findall(r"^  (\w+):", block, re.MULTILINE))
    return found


def english_phrases() -> set[str]:
    """Return the templates of all phrases in the code."""
    found = set()
    for folder in ("trustopt", "nodes"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Phrase":
                    template = node.args[0]
                    assert isinstance(template, ast.Constant), f"{path}:{node.lineno}"
                    found.add(template.value)
    return found


def placeholders(text: str) -> set[str]:
    return set(re.findall(r"\{(\w*)\}", text))


def numbers(text: str) -> set[str]:
    return set(re.findall(r"\d+(?:\.\d+)?(?:e-\d+)?", text))


def check(english: dict[str, str], translated: dict[str, str]) -> None:
    """Check that each text is translated, with all its figures and what is put in."""
    missing, extra = english.keys() - translated.keys(), translated.keys() - english.keys()
    assert (sorted(missing), sorted(extra)) == ([], [])
    for key, text in translated.items():
        assert text.strip(), key
        assert text != english[key] or text in ALIKE, f"{key} is not translated"
        assert placeholders(text) == placeholders(english[key]), key
        assert numbers(text) >= numbers(english[key]), key


def test_these_are_the_languages() -> None:
    assert {path.name for path in LOCALES.iterdir()} == {"en", *LANGUAGES}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_of_a_node_is_translated(language) -> None:
    check(definitions("en"), definitions(language))


@pytest.mark.parametrize("language", ["en", *LANGUAGES])
def test_nothing_in_a_text_is_syntax_to_the_frontend(language) -> None:
    for key, text in definitions(language).items():  # tooltips are shown as they are
        assert key.endswith(".tooltip") or not re.search(r"[{}@|]", text), key


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_of_the_extension_is_translated(language) -> None:
    assert list(read(language, "main")) == ["trustopt"]
    check(english_of_the_page(), read(language, "main")["trustopt"])


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_message_of_the_server_is_translated(language) -> None:
    table = read(language, "phrases")
    assert set(table) == english_phrases()
    check({template: template for template in table}, table)


# -- help pages ----------------------------------------------------------------------------------


def listed(page: str, heading: str) -> list[tuple[str, str]]:
    """Return what a table lists: name, and the second column."""
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section, re.MULTILINE)


def names(page: str, heading: str) -> list[str]:
    return [name for name, _ in listed(page, heading)]


def outline(page: str) -> list[str]:
    """Return the marks of a page's headings and code blocks, in their order."""
    return re.findall(r"^(#+ |```)", page, re.MULTILINE)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("english", sorted(PAGES.glob("*.md")), ids=lambda page: page.stem)
def test_a_help_page_says_all_that_the_english_one_says(language, english) -> None:
    original = english.read_text(encoding="utf-8")
    page = (PAGES / english.stem / f"{language}.md").read_text(encoding="utf-8")
    node = read(language, "nodeDefs")[english.stem]
    assert page.startswith(f"# {node['display_name']}\n")
    assert outline(page) == outline(original)
    inputs, outputs = HEADINGS[language]
    assert names(page, inputs) == names(original, "Inputs")
    assert names(page, outputs) == names(original, "Outputs")
    assert dict(listed(page, inputs)) == {
        name: node["inputs"][name]["name"] for name in names(page, inputs)
    }
    assert [shown for _, shown in listed(page, outputs)] == [
        entry["name"] for entry in node["outputs"].values()
    ]


def test_no_help_page_is_left_over() -> None:
    pages = {page.relative_to(PAGES).as_posix() for page in PAGES.glob("*/*")}
    nodes = [page.stem for page in PAGES.glob("*.md")]
    assert pages == {f"{node}/{language}.md" for node in nodes for language in LANGUAGES}


# -- the README ----------------------------------------------------------------------------------


def test_the_japanese_readme_is_built_as_the_english_one() -> None:
    english = (ROOT / "README.md").read_text(encoding="utf-8")
    japanese = (ROOT / "README.ja.md").read_text(encoding="utf-8")
    assert outline(japanese) == outline(english)
    assert "(README.ja.md)" in english
    assert "(README.md)" in japanese
    for image in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", english + japanese):
        assert (ROOT / image).stat().st_size <= 300_000, image
