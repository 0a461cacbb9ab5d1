import json
from pathlib import Path

import pytest

from trustopt.plan import FAMILIES, PURPOSES, VALUES, load_preset, load_presets, preset_tables
from trustopt.plan.presets import presets_folder

ROOT = Path(__file__).parents[3]
TRUST = {  # szxex's ranges
    "style": (0.35, 0.45),
    "character": (0.40, 0.55),
    "concept": (0.30, 0.45),
    "photoreal": (0.25, 0.40),
}


def test_every_file_is_a_table_that_loads():
    presets = load_presets()
    names = {f"{family}_{purpose}.json" for family, purpose in presets}
    assert names == {path.name for path in presets_folder().iterdir()}
    assert len(presets) == len(FAMILIES) * len(PURPOSES) == 8


@pytest.mark.parametrize("purpose", PURPOSES)
@pytest.mark.parametrize("family", FAMILIES)
def test_tables_agree_with_the_project(family, purpose):
    preset = load_preset(family, purpose)
    assert preset.trust_level_range == TRUST[purpose]
    assert "AutoTrustGO" in preset.source
    assert [row.max_images for row in preset.rows] == [15, 30, 60, None]
    assert [row.min_images for row in preset.rows] == [1, 16, 31, 61]
    for row in preset.rows:
        assert set(row.values) == set(VALUES) - {"epochs", "warmup_steps"}
        assert row.values["steps"] <= 3000
        assert not row.values["train_text_encoders"]
        assert row.values["timesteps"] == {"flux": "flux-shift", "sdxl": "uniform"}[family]
        assert (row.values["min_snr_gamma"] > 0) == (family == "sdxl")


def test_tables_are_found_inside_an_installed_package(tmp_path, monkeypatch):
    inside = tmp_path / "trustopt" / "presets"
    monkeypatch.setattr(
        "trustopt.plan.presets.__file__", str(tmp_path / "trustopt" / "plan" / "presets.py")
    )
    assert presets_folder() == tmp_path / "presets"
    inside.mkdir(parents=True)
    assert presets_folder() == inside


@pytest.fixture
def table():
    return json.loads((presets_folder() / "flux_character.json").read_text(encoding="utf-8"))


def load_changed(tmp_path, table):
    (tmp_path / "flux_character.json").write_text(json.dumps(table), encoding="utf-8")
    return load_preset("flux", "character", tmp_path)


def test_a_row_may_set_any_value(tmp_path, table):
    table["rows"][0]["resolution"] = 768
    preset = load_changed(tmp_path, table)
    assert preset.row_for(10).values["resolution"] == 768
    assert preset.row_for(20).values["resolution"] == 512


def set_at(*path, to):
    def change(table):
        *parents, last = path
        for key in parents:
            table = table[key]
        table[last] = to

    return change


def drop(*path):
    def change(table):
        *parents, last = path
        for key in parents:
            table = table[key]
        del table[last]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("source"), "flux_character.json lacks source; it knows family"),
        (set_at("source", to=" "), 'expects "source" to say where'),
        (set_at("notes", to=""), "flux_character.json does not know notes"),
        (set_at("purpose", to="style"), "holds presets for flux style"),
        (set_at("warmup_fraction", to=1.5), 'expects "warmup_fraction" to be a number from 0 to 1'),
        (set_at("trust_level_range", to=[0.5, 0.4]), 'expects "trust_level_range"'),
        (set_at("trust_level_range", to="high"), 'expects "trust_level_range"'),
        (set_at("shared", to=[]), 'expects "shared" to be an object'),
        (set_at("shared", "ranks", to=4), '"shared" does not know ranks'),
        (set_at("shared", "rank", to=0), "row 1: rank must be a whole number of at least 1, got 0"),
        (set_at("rows", to=[]), 'expects "rows" to be a list'),
        (set_at("rows", 1, to="B"), "row 2 expects a JSON object"),
        (drop("rows", 1, "steps"), "row 2 lacks steps"),
        (set_at("rows", 1, "epochs", to=5), "row 2 does not know epochs"),
        (set_at("rows", 1, "lr", to="fast"), "row 2: lr must be a number"),
        (set_at("rows", 1, "label", to=""), 'row 2 expects "label" to be text'),
        (set_at("rows", 1, "preset", to="A"), 'expects another "preset" id for each row'),
        (set_at("rows", 1, "max_images", to=15), "row 2 expects .* at least 16"),
        (set_at("rows", 1, "max_images", to=None), "row 2 expects .* at least 16"),
        (set_at("rows", 3, "max_images", to=90), "row 4 expects .* null"),
    ],
)
def test_a_broken_table_names_the_fault(tmp_path, table, change, message):
    change(table)
    with pytest.raises(ValueError, match=message):
        load_changed(tmp_path, table)


def test_a_file_that_is_not_json_or_not_there(tmp_path):
    with pytest.raises(ValueError, match="no preset file"):
        load_preset("flux", "character", tmp_path)
    path = tmp_path / "flux_character.json"
    path.write_text('{"family": ', encoding="utf-8")
    with pytest.raises(ValueError, match=r"flux_character.json is not valid JSON"):
        load_preset("flux", "character", tmp_path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"flux_character.json is not valid JSON"):
        load_preset("flux", "character", tmp_path)
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(ValueError, match="expects a JSON object"):
        load_preset("flux", "character", tmp_path)


def test_the_page_shows_the_tables_as_they_are():
    page = (ROOT / "docs" / "presets.md").read_text(encoding="utf-8")
    assert preset_tables() in page, "run python tools/write_preset_tables.py"
    assert "| B medium | 16 - 30 | 2000 | 2.5e-4 | 16/8 | 2 | cosine | 20% = 400 |" in page
