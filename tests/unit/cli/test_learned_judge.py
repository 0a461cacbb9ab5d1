"""Mirrors trustopt/cli/style_bench/encoder.py, learned.py and fidelity_table.py."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from trustopt.cli.style_bench import learned
from trustopt.cli.style_bench.encoder import Encoder, changed, ranks, train_encoder
from trustopt.cli.style_bench.fidelity_table import fidelity_table
from trustopt.cli.style_bench.learned import Competence, Fidelity, LearnedJudge, competence_of
from trustopt.cli.style_bench.packages import Drawing, Package, plain_code

SIGNS = 160
UNSEEN = 40


def sign(number: int, style: str) -> np.ndarray:
    """Return three shapes; ``lines`` outlines them in black, elsewhere and in other colours."""
    random = np.random.default_rng(number)
    across, down = (int(shift) for shift in random.integers(-5, 6, 2))
    picture = Image.new("RGB", (64, 64), "white")
    draw = ImageDraw.Draw(picture)
    for _ in range(3):
        left, top = (int(place) for place in random.integers(8, 34, 2))
        width, height = (int(side) for side in random.integers(10, 26, 2))
        colour = tuple(int(value) for value in random.integers(0, 200, 3))
        shape = draw.ellipse if random.random() < 0.5 else draw.rectangle
        if style == "lines":
            left, top = left + across, top + down
            colour = tuple(value // 2 + 128 for value in (*colour[1:], colour[0]))
        outline = "black" if style == "lines" else None
        shape((left, top, left + width, top + height), fill=colour, outline=outline, width=2)
    return np.array(picture)


@pytest.fixture(scope="module")
def pairs():
    """Return signs, each in two styles, ``(SIGNS, 2, 3, 64, 64)``."""
    styles = [
        learned.as_tensor([sign(number, style) for number in range(SIGNS)])
        for style in ("filled", "lines")
    ]
    return torch.stack(styles, dim=1)


@pytest.fixture(scope="module")
def encoder(pairs):
    return train_encoder(pairs[UNSEEN:], seed=0, steps=100, batch=32)


def test_signs_never_seen_are_found_in_the_other_style(pairs, encoder) -> None:
    found = competence_of(encoder, pairs[:UNSEEN])
    assert found.emoji == UNSEEN
    assert found.first >= 0.6  # chance is 0.025
    assert found.first_five >= 0.9
    assert found.style >= 0.75
    assert found.first > found.pixels_first + 0.2
    assert found.first_five > found.pixels_five + 0.1


def test_without_training_or_with_wrong_pairs_they_are_not(pairs, encoder) -> None:
    new = Encoder(torch.Generator().manual_seed(0))
    with torch.no_grad():
        untrained = competence_of(new, pairs[:UNSEEN])
    assert untrained.first <= 0.4
    assert untrained.first_five <= 0.7
    wrong = torch.stack((pairs[:UNSEEN, 0], pairs[:UNSEEN, 1].roll(1, dims=0)), dim=1)
    assert competence_of(encoder, wrong).first <= 0.2


def test_the_same_pairs_and_seed_give_the_same_encoder(pairs) -> None:
    one, two, other = (
        train_encoder(pairs, seed=seed, steps=2, batch=8).state_dict() for seed in (0, 0, 1)
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_pictures_are_judged_by_their_own_truth_among_all(pairs, encoder) -> None:
    judge = LearnedJudge(encoder, competence_of(encoder, pairs[:UNSEEN]))
    truth = [sign(number, "lines") for number in range(UNSEEN)]
    perfect = judge.judge(truth, truth)
    assert (perfect.first, perfect.first_five) == (1.0, 1.0)
    assert perfect.distance == pytest.approx(0.0, abs=1e-6)
    swapped = judge.judge([truth[1], truth[0]], truth)
    assert swapped.first == 0.0
    half = judge.judge([truth[0], truth[2]], truth)
    assert half.first == 0.5
    other_style = judge.judge([sign(number, "filled") for number in range(UNSEEN)], truth)
    assert 0.02 < other_style.distance < swapped.distance
    with pytest.raises(ValueError, match="2 drawn pictures cannot be judged by 1 truths"):
        judge.judge(truth[:2], truth[:1])


def test_ranks_count_the_keys_that_are_nearer() -> None:
    axes = torch.eye(3)
    near_second = torch.nn.functional.normalize(torch.tensor([[0.6, 0.7, 0.3]]), dim=1)
    assert ranks(axes, axes).tolist() == [0, 0, 0]
    assert ranks(near_second, axes).tolist() == [1]
    generator = torch.Generator().manual_seed(0)
    many = torch.nn.functional.normalize(torch.randn(64, 128, generator=generator), dim=1)
    assert ranks(many, many).tolist() == [0] * 64  # rounding makes nobody his own rival


def test_changed_pictures_stay_white_outside_and_within_range() -> None:
    page = torch.ones(4, 3, 64, 64)
    page[:, :, 24:40, 24:40] = 0.2
    told = changed(page, torch.Generator().manual_seed(0))
    assert told.shape == page.shape
    torch.testing.assert_close(told[:, :, :4], torch.ones(4, 3, 4, 64))
    assert 0.0 <= told.min() < 0.5
    assert not torch.equal(told[0], told[1])


def package(style: str, count: int, colour: int = 0) -> Package:
    def drawing(number: int) -> Drawing:
        def read() -> np.ndarray:
            return np.minimum(sign(number, "filled"), 255 - colour).astype(np.uint8)

        return Drawing(f"1F{number:03}", f"sign {number}", "objects", "tool", read)

    return Package(style, [drawing(number) for number in range(count)])


def test_the_judge_is_kept_and_a_stale_one_is_not_used(tmp_path, monkeypatch) -> None:
    train = learned.train_encoder

    def quick(pairs, **given):
        return train(pairs, steps=2, batch=8, **given)

    monkeypatch.setattr(learned, "train_encoder", quick)
    noto, styled = package("noto", 25), package("twemoji", 24)
    fresh = learned.find_judge(noto, styled, tmp_path)
    assert fresh.competence.emoji == 2
    (file,) = tmp_path.iterdir()
    monkeypatch.setattr(learned, "train_encoder", None)  # trains no more
    kept = learned.find_judge(noto, styled, tmp_path)
    truth = [sign(number, "filled") for number in range(4)]
    assert kept.judge(truth[::-1], truth) == fresh.judge(truth[::-1], truth)
    monkeypatch.setattr(learned, "train_encoder", quick)
    learned.find_judge(noto, package("twemoji", 24, colour=1), tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    recipe = tmp_path / "encoder.py"
    recipe.write_text("STEPS = 401")
    monkeypatch.setattr(learned.recipe, "__file__", str(recipe))
    assert learned.key_of(learned.matched(noto, styled)) not in file.name
    with pytest.raises(ValueError, match="noto and twemoji share 19 emoji"):
        learned.matched(noto, package("twemoji", 19))


def test_codes_are_equal_in_all_packages() -> None:
    assert plain_code("1f3cc-FE0F-200D-2640-FE0F") == "1F3CC-200D-2640"


def test_the_table_shows_each_contender_beside_what_others_reach() -> None:
    results = [
        {"contender": name, "lr": 0.1, "seed": seed, "held_out": 0.5, "leak": leak}
        | {"first": 0.5, "first_five": 0.75, "distance": distance}
        for name, seed, leak, distance in (
            ("adamw", 0, 0.01, 0.4),
            ("adamw", 1, 0.03, 0.5),
            ("lion", 0, 0.02, 0.3),
        )
    ]
    base = {"before training": Fidelity(0.25, 0.5, 0.8)}
    before, lion, adamw = fidelity_table(results, base).splitlines()[2:]
    assert before == "| before training | - | - | 0.25 | 0.50 | 0.800 | - | - |"
    assert lion == "| lion | 0.1 | 1 | 0.50 | 0.75 | 0.300 | -0.1000 | 0.0200 |"
    half = 12.71 * 0.1 / 2**0.5 / 2**0.5
    assert adamw.startswith(f"| adamw | 0.1 | 2 | 0.50 ± 0.00 | 0.75 ± 0.00 | 0.450 ± {half:.3f} |")
    assert adamw.endswith(f"| - | 0.0200 ± {half / 5:.4f} |")


def test_the_judge_says_what_it_is_worth() -> None:
    told = learned.told(Competence(50, 0.7, 0.9, 0.4, 0.6, 1.0))
    assert "on 50 emoji" in told
    assert "first in 70%, among the first five in 90% (by correlation of pixels 40% and " in told
    assert "60%, by chance 2% and 10%), and tells the styles apart in 100%." in told
