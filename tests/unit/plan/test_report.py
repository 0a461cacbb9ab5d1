import pytest

from trustopt.plan import (
    PURPOSES,
    caption_help,
    image_set_warnings,
    lora_file_bytes,
    make_plan,
    overfit_help,
    resolve_for_optimizer,
    toast_text,
)
from trustopt.plan.wording import duration, scientific


def test_several_processes_show_the_global_batch() -> None:
    plan = make_plan(75, family="sdxl", overrides={"batch_size": 2, "steps": 750, "epochs": 20})
    text = toast_text(plan, processes=4)
    seen = (
        "• Batch: 2 * x accumulation 1 x 4 processes, 8 images a step: each image is seen 80 times"
    )
    assert seen in text
    assert "Epochs: 80 *" in text


def test_toast_of_the_documents_example():
    # The document's example with its own table's figures: 25 images, preset B.
    plan = make_plan(25, family="flux")
    assert toast_text(plan, file_bytes=13_400_000, seconds_per_step=1.4).splitlines() == [
        "Preset B (medium) applied for 25 images (FLUX character):",
        "• 2000 steps (80 steps per image)",
        "• LR: 2.5e-4 (cosine scheduler)",
        "• Rank/Alpha: 16/8",
        "• Repeats: 2, Epochs: 40, Warmup: 400 steps",
        "• File: about 13 MB",
        "• Time: about 46 min",
    ]


def test_toast_marks_the_users_values_and_shows_what_the_optimizer_changed():
    plan = make_plan(75, family="sdxl", overrides={"rank": 8, "accumulation": 4})
    resolved = resolve_for_optimizer(
        plan, optimizer="AutoTrustGO", schedule_policy="constant_only", lr_factor=1.25
    )
    lines = toast_text(plan, resolved).splitlines()
    assert "• LR: 1.25e-4 (constant scheduler)" in lines
    assert "• Rank/Alpha: 8 */4" in lines
    assert "• Repeats: 1, Epochs: 158, Warmup: none" in lines  # ceil(75 / 4) = 19 steps an epoch
    assert "• Batch: 1 x accumulation 4 *: each image is seen 160 times" in lines
    assert "• lr 1.25e-4 instead of 1e-4 (x1.25)" in lines
    assert "⚠ 75 images, more than 60. Curate to the best 30-60" in lines
    assert lines[-1] == "* set by you"
    assert not any("File" in line or "Time" in line for line in lines)


@pytest.mark.parametrize(
    ("num_images", "arguments", "starts"),
    [
        (4, {}, ["Few images (4): "]),
        (5, {}, []),
        (60, {}, []),
        (61, {}, ["61 images, more than 60. Curate to the best 30-60"]),
        (61, {"purpose": "style"}, ["61 images, more than 60. Leave out the odd ones"]),
        (
            20,
            {"missing_captions": 3},
            ["Without a caption: 3 of 20 images", "Put one rare trigger"],
        ),
        (
            20,
            {"missing_trigger": 2},
            ["Without the trigger word: 2 of 20 captions", "Put one rare trigger"],
        ),
        (20, {"num_sizes": 3}, ["3 image sizes: "]),
        (20, {"num_small": 1}, ["Smaller than the training resolution: 1 of 20"]),
        (20, {"duplicates": 2}, ["Duplicates: 2 of 20 images"]),
    ],
)
def test_image_set_warnings(num_images, arguments, starts):
    warnings = image_set_warnings(num_images, **arguments)
    assert len(warnings) == len(starts)
    for warning, start in zip(warnings, starts, strict=True):
        assert warning.startswith(start)


def test_a_plan_carries_the_warnings_it_is_given():
    warnings = image_set_warnings(20, duplicates=2)
    assert make_plan(20, family="flux", warnings=warnings).warnings == warnings
    assert make_plan(20, family="flux").warnings == ()
    assert len(make_plan(70, family="flux").warnings) == 1


def test_file_size_of_the_default_adapters():
    assert lora_file_bytes(42_560_000) == 85_120_000  # SDXL, rank 16, bf16
    assert lora_file_bytes(42_560_000, "fp32") == 170_240_000
    with pytest.raises(ValueError, match="dtype must be one of fp32, bf16, fp16, fp8, got 'int8'"):
        lora_file_bytes(1, "int8")


def test_help_speaks_of_the_trigger_word_and_of_earlier_checkpoints():
    assert all("trigger word" in caption_help(purpose) for purpose in PURPOSES)
    assert len({caption_help(purpose) for purpose in ("character", "style", "concept")}) == 3
    assert "earlier checkpoint" in overfit_help()


@pytest.mark.parametrize(
    ("value", "text"),
    [(2.5e-4, "2.5e-4"), (1e-4, "1e-4"), (1.5e-4 * 1.25, "1.875e-4"), (1.0, "1"), (6e-5, "6e-5")],
)
def test_learning_rates_read_as_people_write_them(value, text):
    assert scientific(value) == text
    assert float(text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(45.2, "45 s"), (200, "3 min 20 s"), (3599, "59 min"), (4980, "1 h 23 min")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text
