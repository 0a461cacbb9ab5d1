"""Mirrors trustopt/diffusion/objective.py: the whole objective against plain formulas."""

import math

import pytest
import torch

from trustopt.config import ObjectiveConfig
from trustopt.diffusion import Objective

SIGMAS = torch.linspace(0.0292, 14.6146, 1000)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def objective(prediction: str = "eps", **settings) -> Objective:
    sigmas = None if prediction == "flow" else SIGMAS
    return Objective(ObjectiveConfig(**settings), prediction=prediction, sigmas=sigmas)


@pytest.mark.parametrize("prediction", ["eps", "v", "flow"])
def test_a_perfect_network_recovers_the_latents(prediction: str) -> None:
    latents = torch.randn(3, 4, 8, 8, generator=generator())
    draw = objective(prediction).draw(latents, generator(1))
    sigma = draw.sigma.view(-1, 1, 1, 1)

    if prediction == "v":
        recovered = draw.noised / (sigma**2 + 1) - sigma * draw.target / (sigma**2 + 1).sqrt()
    else:  # ComfyUI's EPS and CONST: x0 = x - sigma * output
        recovered = draw.noised - sigma * draw.target

    torch.testing.assert_close(recovered, latents, rtol=0, atol=2e-5)


@pytest.mark.parametrize("prediction", ["eps", "v", "flow"])
def test_loss_is_zero_for_the_target_and_mean_square_otherwise(prediction: str) -> None:
    latents = torch.randn(2, 4, 8, 8, generator=generator())
    goal = objective(prediction)
    draw = goal.draw(latents, generator(1))

    assert goal.losses(draw.target, draw).tolist() == [0.0, 0.0]
    torch.testing.assert_close(goal.losses(draw.target + 0.5, draw), torch.tensor([0.25, 0.25]))


def test_min_snr_is_the_default_of_eps_and_off_for_flow_and_zero_terminal_snr() -> None:
    latents = torch.zeros(64, 4, 2, 2)
    draw = objective().draw(latents, generator())
    torch.testing.assert_close(objective().weights(draw), (5.0 * draw.sigma**2).clamp_max(1.0))

    flow = objective("flow")
    assert flow.weights(flow.draw(latents, generator())).unique().tolist() == [1.0]

    zero = Objective(
        ObjectiveConfig(), prediction="v", sigmas=torch.cat([SIGMAS[:-1], torch.tensor([4518.76])])
    )
    assert zero.zero_terminal_snr
    assert zero.weights(zero.draw(latents, generator())).unique().tolist() == [1.0]


def test_v_min_snr_weight_by_hand() -> None:
    goal = objective("v", weighting="min-snr", min_snr_gamma=5.0)
    draw = goal.draw(torch.zeros(4, 4, 2, 2), generator())
    snr = draw.sigma**-2
    torch.testing.assert_close(goal.weights(draw), snr.clamp_max(5.0) / (snr + 1.0))


def test_stratified_draws_visit_every_stratum_and_resume() -> None:
    goal = objective()
    rng = generator(3)
    first = goal.draw(torch.zeros(20, 4, 2, 2), rng).level
    state, rng_state = goal.state_dict(), rng.get_state()
    rest = goal.draw(torch.zeros(12, 4, 2, 2), rng).level

    assert sorted((torch.cat([first, rest]) * 32).long().tolist()) == list(range(32))

    again, rng = objective(), generator()
    again.load_state_dict(state)
    rng.set_state(rng_state)
    assert torch.equal(again.draw(torch.zeros(12, 4, 2, 2), rng).level, rest)


def test_flux_default_density_at_1024_pixels() -> None:
    goal = objective("flow", stratified=True)
    level = goal.level_of((torch.arange(10000) + 0.5) / 10000, image_tokens=4096)
    # Published table: sigmoid shifted by 3.158 has mean .723 and tenths .467 / .760 / .919.
    assert math.isclose(level.mean(), 0.723, abs_tol=2e-3)
    quantiles = torch.quantile(level, torch.tensor([0.1, 0.5, 0.9]))
    torch.testing.assert_close(quantiles, torch.tensor([0.467, 0.760, 0.919]), rtol=0, atol=2e-3)


def test_sdxl_levels_are_the_models_own_table() -> None:
    goal = objective()
    levels = torch.tensor([1e-6, 0.0015, 0.5, 1 - 1e-6])
    assert torch.equal(goal.sigma_at(levels), SIGMAS[[0, 1, 500, 999]])


def test_mask_keeps_the_floor_outside() -> None:
    goal = objective(unmasked_weight=0.25)
    draw = goal.draw(torch.zeros(1, 1, 1, 2), generator())
    output = draw.target + torch.tensor([[[[2.0, 4.0]]]])
    loss = goal.losses(output, draw, torch.tensor([[[[1.0, 0.0]]]]))
    torch.testing.assert_close(loss, torch.tensor([(4.0 + 0.25 * 16.0) / 1.25]))


def test_same_generator_same_draw_and_global_rng_untouched() -> None:
    before = torch.random.get_rng_state()
    latents = torch.zeros(2, 4, 8, 8)
    settings = {"noise_offset": 0.1, "pyramid_levels": 3, "input_perturbation": 0.1}
    first = objective(**settings).draw(latents, generator(5))
    second = objective(**settings).draw(latents, generator(5))

    assert torch.equal(first.noised, second.noised)
    assert not torch.equal(first.noised, objective(**settings).draw(latents, generator(6)).noised)
    assert torch.equal(before, torch.random.get_rng_state())


def test_input_perturbation_changes_the_input_and_not_the_target() -> None:
    latents = torch.zeros(2, 4, 8, 8)
    plain = objective().draw(latents, generator(5))
    perturbed = objective(input_perturbation=0.1).draw(latents, generator(5))
    assert torch.equal(plain.target, perturbed.target)
    assert not torch.equal(plain.noised, perturbed.noised)


@pytest.mark.parametrize(
    ("prediction", "settings", "words"),
    [
        ("flow", {"weighting": "min-snr"}, "flow model"),
        ("flow", {"weighting": "debiased"}, "flow model"),
        ("eps", {"timesteps": "flux-shift"}, "for flow models"),
    ],
)
def test_settings_that_cannot_apply_are_refused(prediction, settings, words) -> None:
    with pytest.raises(ValueError, match=words):
        objective(prediction, **settings)
