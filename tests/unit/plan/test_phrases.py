import copy
import json
from pathlib import Path

import pytest

from trustopt.plan import (
    ENGLISH,
    Phrase,
    TrainPlan,
    make_plan,
    resolve_for_optimizer,
    say,
    toast_text,
)

LOCALES = Path(__file__).parents[3] / "locales"
TABLE = {"{number} pictures ({why})": "画像 {number} 枚（{why}）", "too many": "多すぎます"}


def test_a_phrase_is_its_english_text():
    phrase = Phrase("{number} pictures ({why})", number=61, why=Phrase("too many"))
    assert phrase == "61 pictures (too many)"
    assert f"{phrase}!" == "61 pictures (too many)!"
    assert json.dumps([phrase]) == '["61 pictures (too many)"]'
    assert say(phrase, ENGLISH) == phrase


def test_a_phrase_is_said_in_another_language_with_all_that_was_put_in():
    phrase = Phrase("{number} pictures ({why})", number=61, why=Phrase("too many"))
    assert say(phrase, TABLE) == "画像 61 枚（多すぎます）"
    assert say(Phrase("{number} pictures ({why})", number=2, why="{odd}"), TABLE) == (
        "画像 2 枚（{odd}）"
    )


def test_what_no_table_knows_stays_as_it_is():
    assert say("many", TABLE) == "many"
    assert say(61, TABLE) == 61
    assert say(Phrase("{number} masks", number=3), TABLE) == "3 masks"


def test_a_copy_is_plain_text_whatever_it_holds():
    phrase = Phrase("the folder {name}", name="{0}")
    assert phrase == "the folder {0}"
    for copied in (copy.copy(phrase), copy.deepcopy(phrase)):
        assert type(copied) is str
        assert copied == phrase


def test_a_plan_comes_back_from_json_with_its_warnings():
    plan = make_plan(75, family="sdxl")
    assert plan.warnings == ("75 images, more than 60. Curate to the best 30-60",)
    assert TrainPlan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


@pytest.mark.parametrize("language", ["ja", "ko", "zh"])
def test_every_line_of_the_message_is_said(language):
    table = json.loads((LOCALES / language / "phrases.json").read_text(encoding="utf-8"))
    mine = {"rank": 8, "accumulation": 4, "warmup_steps": 10, "lr": 3e-4}
    plan = make_plan(75, family="sdxl", overrides=mine)
    resolved = resolve_for_optimizer(
        plan, optimizer="AutoTrustGO", schedule_policy="constant_only", steps_factor=1.2
    )
    figures = {"file_bytes": 42_000_000, "seconds_per_step": 1.4}
    english = toast_text(plan, resolved, **figures).splitlines()
    said = toast_text(plan, resolved, **figures, table=table).splitlines()
    assert len(said) == len(english)
    assert not set(said) & set(english)
    assert not any(word in line for line in said for word in ("steps", "images", "instead"))
    for figure in ("75", "3600", "8 *", "3e-4 *", "42", "4 *"):
        assert any(figure in line for line in said), figure
