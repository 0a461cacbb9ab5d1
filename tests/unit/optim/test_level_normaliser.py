"""The loss with the noise levels divided out."""

import math

import pytest
import torch

from trustopt.optim import LevelNormaliser


def draw(step: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Losses that fall slowly, by a factor of 60 over the levels, with 25 % noise of their own."""
    trend = 0.7 + 0.3 * math.exp(-step / 300)
    levels = torch.rand(2, generator=generator)
    noise = torch.exp(0.25 * torch.randn(2, generator=generator))
    return trend * (0.02 + 1.2 * (1 - levels) ** 3) * noise, levels, trend


def relative_spread(values: list[float], trend: list[float]) -> float:
    ratio = torch.tensor(values) / torch.tensor(trend)
    return float(ratio.std() / ratio.mean())


def test_shows_the_training_instead_of_the_dice() -> None:
    generator = torch.Generator().manual_seed(0)
    normaliser = LevelNormaliser()
    raw, normalised, trends = [], [], []
    for step in range(900):
        losses, levels, trend = draw(step, generator)
        raw.append(float(losses.mean()))
        normalised.append(normaliser(losses, levels))
        trends.append(trend)
    assert relative_spread(raw[200:], trends[200:]) > 0.6
    assert relative_spread(normalised[200:], trends[200:]) < 0.3


def test_falls_as_the_loss_falls_in_the_losses_own_unit() -> None:
    generator = torch.Generator().manual_seed(0)
    normaliser = LevelNormaliser()
    means = []
    for factor in (1.0, 0.5):
        values, raw = [], []
        for _ in range(600):
            losses, levels, _ = draw(0, generator)
            values.append(normaliser(factor * losses, levels))
            raw.append(float(factor * losses.mean()))
        means.append(sum(values[300:]) / 300)
        assert means[-1] == pytest.approx(sum(raw[300:]) / 300, rel=0.25)
    assert means[1] / means[0] == pytest.approx(0.5, rel=0.1)


def test_the_first_loss_is_raw() -> None:
    assert LevelNormaliser()(torch.tensor([0.2, 0.4]), torch.tensor([0.0, 1.0])) == pytest.approx(
        0.3
    )


def test_a_bad_loss_teaches_nothing() -> None:
    normaliser = LevelNormaliser()
    normaliser(torch.tensor([0.2]), torch.tensor([0.3]))
    before = normaliser.state_dict()
    assert math.isnan(normaliser(torch.tensor([float("nan")]), torch.tensor([0.3])))
    assert normaliser.state_dict() == before


def test_resumes() -> None:
    straight, resumed = LevelNormaliser(), LevelNormaliser()
    generator = torch.Generator().manual_seed(0)
    for step in range(40):
        if step == 15:
            resumed.load_state_dict(straight.state_dict())
        losses, levels, _ = draw(step, generator)
        value = straight(losses, levels)
        if step >= 15:
            assert resumed(losses, levels) == value


@pytest.mark.parametrize("level", [-0.1, 1.5, float("nan")])
def test_rejects_a_level_outside(level: float) -> None:
    with pytest.raises(ValueError, match=r"levels must be in \[0, 1\]"):
        LevelNormaliser()(torch.tensor([0.1]), torch.tensor([level]))


def test_rejects_shapes_that_differ() -> None:
    with pytest.raises(ValueError, match="must both be"):
        LevelNormaliser()(torch.ones(2), torch.ones(3))
