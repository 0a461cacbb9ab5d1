"""Mirrors trustopt/cli/job_file.py: what a job file may hold, and what its errors say."""

from pathlib import Path

import pytest

from trustopt.cli.example import EXAMPLE
from trustopt.cli.job_file import TABLES, parse, read_job_file
from trustopt.plan import VALUES

MINIMAL = """
[model]
path = "tiny"
family = "flux"
[images]
folder = "pictures"
"""


@pytest.fixture
def read(tmp_path):
    """Return a function that reads a job file of a text, with settings."""

    def read(text: str = MINIMAL, *settings: str):
        path = tmp_path / "fox.toml"
        path.write_text(text, encoding="utf-8")
        return read_job_file(path, settings)

    return read


def test_a_minimal_file_names_model_and_images(read, tmp_path) -> None:
    job = read()
    assert (job.name, job.purpose, job.plan) == ("fox", "character", {})
    assert job.optimizer.name == "autotrustgo"
    assert job.locate(job.images.folder) == tmp_path / "pictures"
    assert job.locate("/data/pictures") == Path("/data/pictures")


def test_values_of_the_plan_may_stand_in_the_table_they_belong_to(read) -> None:
    job = read(
        MINIMAL + '[adapter]\nrank = 8\ndropout = 0.1\n[plan]\nsteps = 10\npurpose = "style"'
    )
    assert job.purpose == "style"
    assert job.plan == {"steps": 10, "rank": 8}
    assert job.adapter == {"dropout": 0.1}


def test_settings_replace_what_the_file_says(read) -> None:
    job = read(
        MINIMAL + "[plan]\nsteps = 10\n",
        "plan.steps=500",
        "output.name=red fox",
        "optimizer.options.trust_level=0.5",
        'samples.prompts=["a fox", "a wolf"]',
        "plan.flip=true",
    )
    assert job.plan == {"steps": 500, "flip": True}
    assert job.name == "red fox"
    assert job.optimizer.options == {"trust_level": 0.5}
    assert list(job.samples.prompts) == ["a fox", "a wolf"]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("plan.step=5", "[plan] does not know 'step'; it knows purpose, steps"),
        ("plan.steps=0", "[plan] steps must be a whole number of at least 1, got 0"),
        ("plan.purpose=face", "[plan] purpose must be one of character, style"),
        ("images.foldr=a", "[images] does not know 'foldr'; it knows folder, trigger_word"),
        ("images.repeats=two", "[images] repeats must be a whole number, got 'two'"),
        ("adapter.algorithm=lorra", "[adapter] algorithm must be one of lora, locon"),
        ("adapter.rank=0", "[adapter] rank must be at least 1"),
        ("data.validation_fraction=1.5", "[data] validation_fraction must be in [0, 1)"),
        ("data.extra_resolutions=512", "extra_resolutions must be an array, each a whole number"),
        ("adapter.ranks.attn=big", "[adapter] ranks must be a table, each value a whole number"),
        ("objective.masked=1", "[objective] masked must be true or false, got 1"),
        ("optimizer.lr=0", "[optimizer] lr must be above 0"),
        ("model.dtype=int8", "[model] dtype must be one of auto, fp32, bf16, fp16"),
        ("model.family=auto", '[model] family must be "sdxl" or "flux" for the tiny model'),
        ("model.path=nowhere.safetensors", "nowhere.safetensors does not exist: give a"),
        ('model.files=["t5.safetensors"]', "t5.safetensors does not exist"),
        ("model.path=", "lacks path in [model]"),
        ("output.name=../fox", "[output] name '../fox' cannot name a file"),
        ("trainer.steps=5", "does not know [trainer]; it knows [adapter], [data]"),
    ],
)
def test_what_is_wrong_is_named_with_file_table_and_remedy(read, setting, words) -> None:
    with pytest.raises(ValueError, match=r"^fox\.toml") as error:
        read(MINIMAL, setting)
    assert words in str(error.value).splitlines()[0]


@pytest.mark.parametrize("setting", ["steps=5", "plan.steps", "plan.=5", "=5"])
def test_a_setting_of_another_form_is_refused_with_an_example(read, setting) -> None:
    with pytest.raises(ValueError, match=r"for example --set plan\.steps=500"):
        read(MINIMAL, setting)


def test_a_value_given_twice_is_refused(read) -> None:
    with pytest.raises(ValueError, match=r"sets rank in \[plan\] and in \[adapter\]"):
        read(MINIMAL, "plan.rank=8", "adapter.rank=16")


def test_no_toml_and_no_file_are_refused(read, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"fox\.toml is no TOML.*line 1"):
        read("[model\n")
    with pytest.raises(ValueError, match=r"cannot be read.*trustopt train --example"):
        read_job_file(tmp_path / "none.toml")
    with pytest.raises(ValueError, match="model must be a table"):
        read('model = "tiny"\n')


def test_the_example_is_a_job_file_and_lacks_only_its_model(tmp_path) -> None:
    path = tmp_path / "job.toml"
    path.write_text(EXAMPLE, encoding="utf-8")
    job = read_job_file(path, ["model.path=tiny", "model.family=sdxl"])
    assert job.name == "my_character"
    assert job.samples.prompts
    commented = [line[2:] for line in EXAMPLE.splitlines() if line.startswith("# ") and "=" in line]
    assert len(commented) > 2  # what a user may uncomment must be right, too
    path.write_text(EXAMPLE.replace("# steps", "steps").replace("# rank", "rank"), encoding="utf-8")
    assert read_job_file(path, ["model.path=tiny", "model.family=sdxl"]).plan["rank"] == 32


def test_every_key_is_in_the_documentation() -> None:
    page = (Path(__file__).parents[3] / "docs" / "headless.md").read_text(encoding="utf-8")
    assert EXAMPLE in page
    for table, cls in TABLES.items():
        section = page.split(f"### [{table}]")[1].split("\n### ")[0]
        missing = [name for name in cls.__dataclass_fields__ if f"`{name}`" not in section]
        assert not missing, f"[{table}] {missing}"
    section = page.split("### [plan]")[1].split("\n### ")[0]
    assert all(f"`{name}`" in section for name in ("purpose", *VALUES))


def test_a_byte_order_mark_does_not_matter(tmp_path) -> None:
    path = tmp_path / "fox.toml"
    path.write_text(MINIMAL, encoding="utf-8-sig")
    assert parse(path)["model"]["path"] == "tiny"
