"""FusedAdamW is torch's AdamW, bit for bit, whatever happens to its parameters between steps."""

import copy

import pytest
import torch
from torch import Tensor

from trustopt.optim.adamw import FusedAdamW

SETTINGS = {"betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1}


def make_params() -> list[torch.nn.Parameter]:
    """Return parameters of three shapes and two dtypes."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 4), (5,), (2, 2, 2), (7,)]
    dtypes = [torch.float32, torch.float32, torch.bfloat16, torch.bfloat16]
    return [
        torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype))
        for shape, dtype in zip(shapes, dtypes, strict=True)
    ]


def grouped(params: list[torch.nn.Parameter]) -> list[dict[str, object]]:
    """Return them in two groups, each of both dtypes, with rates of their own."""
    return [{"params": params[::2]}, {"params": params[1::2], "lr": 3e-2, "weight_decay": 0.0}]


def set_gradients(params: list[torch.nn.Parameter], step: int) -> None:
    """Give each parameter the gradient of a step; every third time one has none."""
    generator = torch.Generator().manual_seed(100 + step)
    for number, parameter in enumerate(params):
        drawn = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
        parameter.grad = None if (step + number) % 3 == 0 else drawn


def take_steps(
    optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter], steps: range
) -> list[Tensor]:
    """Take steps at changing rates and return what the parameters then are."""
    for step in steps:
        set_gradients(params, step)
        for group in optimizer.param_groups:
            group["lr"] *= 0.9
        optimizer.step()
    return [p.detach().clone() for p in params]


def theirs_and_ours() -> tuple[
    tuple[torch.optim.Optimizer, list[torch.nn.Parameter]],
    tuple[torch.optim.Optimizer, list[torch.nn.Parameter]],
]:
    """Return torch's optimizer and ours, each with parameters of its own."""
    first, second = make_params(), make_params()
    theirs = torch.optim.AdamW(grouped(first), lr=1e-2, fused=True, **SETTINGS)
    return (theirs, first), (FusedAdamW(grouped(second), lr=1e-2, **SETTINGS), second)


def assert_same(first: list[Tensor], second: list[Tensor]) -> None:
    """Compare bit for bit."""
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)


def test_every_step_is_torchs() -> None:
    """Gradients that are missing now and then, and rates that change, included."""
    (theirs, first), (ours, second) = theirs_and_ours()
    for step in range(12):
        before = second[1].detach().clone()
        assert_same(
            take_steps(theirs, first, range(step, step + 1)),
            take_steps(ours, second, range(step, step + 1)),
        )
        assert torch.equal(before, second[1]) == (second[1].grad is None)


@pytest.mark.parametrize("ours_first", [True, False])
def test_a_state_of_one_goes_on_in_the_other(ours_first: bool) -> None:
    """Both ways, and into an optimizer that has already taken steps of its own."""
    pairs = theirs_and_ours()
    (saver, saved), (loader, loaded) = reversed(pairs) if ours_first else pairs
    take_steps(saver, saved, range(4))
    take_steps(loader, loaded, range(20, 23))
    loader.load_state_dict(copy.deepcopy(saver.state_dict()))
    with torch.no_grad():
        for a, b in zip(loaded, saved, strict=True):
            a.copy_(b)
    assert_same(take_steps(saver, saved, range(4, 9)), take_steps(loader, loaded, range(4, 9)))


def test_a_parameter_added_later_learns() -> None:
    """The lists of the others are no reason to leave it out."""
    params = make_params()
    optimizer = FusedAdamW(params[:2], lr=1e-2)
    take_steps(optimizer, params[:2], range(1, 3))
    optimizer.add_param_group({"params": params[2:]})
    before = params[2].detach().clone()
    for parameter in params:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert not torch.equal(before, params[2])


def test_a_closure_is_called_with_gradients_on() -> None:
    """As torch's optimizers do; what it returns is returned."""
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = FusedAdamW([parameter], lr=0.1)

    def closure() -> Tensor:
        loss = parameter.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 3.0
    assert bool((parameter < 1.0).all())


def test_without_gradients_nothing_changes() -> None:
    """And no state is made."""
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = FusedAdamW([parameter], lr=0.1)
    optimizer.step()
    assert torch.equal(parameter, torch.ones(3))
    assert not optimizer.state
