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


@pytest.mark.parametrize("stratified", [True, False])
def test_passing_over_a_batch_draws_what_a_draw_does(stratified: bool) -> None:
    settings = {
        "stratified": stratified,
        "noise_offset": 0.1,
        "pyramid_levels": 2,
        "input_perturbation": 0.1,
    }
    latents = torch.zeros(3, 4, 8, 6)
    drawing, passing = objective(**settings), objective(**settings)
    one, two = generator(1), generator(1)

    for _ in range(3):
        level = drawing.draw(latents, one).level
        assert torch.equal(passing.pass_over(latents.shape, two), level)
    assert torch.equal(one.get_state(), two.get_state())
    assert all(
        torch.equal(value, passing.state_dict()[name])
        for name, value in drawing.state_dict().items()
    )


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


def test_input_perturbation_by_hand() -> None:
    latents = torch.full((1, 1, 4, 4), 2.0)
    draw = objective("flow", input_perturbation=0.1).draw(latents, generator(5))
    rng = generator(5)
    strata = torch.randperm(32, generator=rng)  # the noise level is drawn first
    torch.rand(1, generator=rng)
    noise = torch.randn(latents.shape, generator=rng)
    extra = torch.randn(latents.shape, generator=rng)
    assert len(strata) == 32
    sigma = draw.sigma
    torch.testing.assert_close(draw.noised, (1 - sigma) * 2.0 + sigma * (noise + 0.1 * extra))
    torch.testing.assert_close(draw.target, noise - 2.0)


@pytest.mark.parametrize("weighting", ["none", "min-snr", "debiased"])
@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_weights_stay_finite_where_the_schedule_ends_in_pure_noise(prediction, weighting) -> None:
    sigmas = torch.cat([SIGMAS[:-1], torch.tensor([4518.76])])
    config = ObjectiveConfig(weighting=weighting)
    goal = Objective(config, prediction=prediction, sigmas=sigmas)
    latents = torch.randn(1, 4, 4, 4, generator=generator())
    last = goal.noised_at(latents, torch.tensor([0.9999]), torch.ones_like(latents))
    assert last.sigma.item() == pytest.approx(4518.76)
    assert last.target.isfinite().all()
    assert last.noised.isfinite().all()
    snr = 4518.76**-2
    by_hand = {
        ("eps", "min-snr"): 1.0,
        ("v", "min-snr"): snr / (snr + 1.0),
        ("eps", "debiased"): 4518.76,
        ("v", "debiased"): 1.0 / (snr + 1.0),
    }
    wanted = by_hand.get((prediction, weighting), 1.0)
    assert goal.weights(last).item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    ("density", "settings", "level"),
    [
        ("uniform", {}, 0.8413447),
        ("sigmoid", {}, 0.7310586),
        ("logit-normal", {"logit_mean": 0.5, "logit_std": 2.0}, 0.9241418),  # sigmoid(0.5 + 2)
        ("shifted", {"shift": 3.0}, 3 * 0.8413447 / (1 + 2 * 0.8413447)),
        ("flux-shift", {}, 3.1582 * 0.7310586 / (1 + 2.1582 * 0.7310586)),
    ],
)
def test_densities_by_hand(density, settings, level) -> None:
    goal = objective("flow", timesteps=density, **settings)
    u = torch.tensor([0.8413447])  # one standard deviation above a normal's mean
    assert goal.level_of(u, image_tokens=4096).item() == pytest.approx(level, abs=1e-5)


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
