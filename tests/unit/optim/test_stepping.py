"""Any optimizer steps and is read alike."""

import pytest
import torch
from materials import gradients, make_params, set_grads

from trustopt.optim import (
    EmoNavi,
    averaged_weights,
    build_optimizer,
    optimizer_signals,
    step_optimizer,
)


def test_the_loss_reaches_those_that_read_it() -> None:
    params = make_params()
    emo, adamw = EmoNavi(params), torch.optim.AdamW(make_params())
    set_grads(params, next(gradients()))
    step_optimizer(emo, torch.tensor(0.25))
    assert float(optimizer_signals(emo)["ema_short"]) == pytest.approx(0.25)
    step_optimizer(adamw, 0.25)
    assert optimizer_signals(adamw) == {}


class TwoFaced(torch.optim.SGD):
    """Trains one set of weights and shows another, as schedule-free does, rounding on the way."""

    shown = False

    @torch.no_grad()
    def train(self) -> None:
        self.shown = False
        for p in self.param_groups[0]["params"]:
            p.add_(7.0)

    @torch.no_grad()
    def eval(self) -> None:
        self.shown = True
        for p in self.param_groups[0]["params"]:
            p.sub_(7.0)


def test_shows_the_averaged_weights_even_through_an_error() -> None:
    params = make_params()
    trained = [p.data.clone() for p in params]
    optimizer = TwoFaced(params, lr=0.1)
    seen = []

    def sample() -> None:
        with averaged_weights(optimizer):
            seen.append(optimizer.shown)
            raise KeyError

    with pytest.raises(KeyError):
        sample()
    assert seen == [True]
    assert not optimizer.shown
    assert all(torch.equal(p.data, before) for p, before in zip(params, trained, strict=True))
    with averaged_weights(torch.optim.SGD(make_params(), lr=0.1)):
        pass


def test_schedule_free_samples_from_its_average() -> None:
    pytest.importorskip("schedulefree")
    params = make_params([(4, 4)])
    optimizer = build_optimizer("schedulefree", params, lr=1e-1, options={"warmup_steps": 0})
    source = gradients([(4, 4)])
    for _ in range(5):
        set_grads(params, next(source))
        step_optimizer(optimizer, None)
    trained = params[0].data.clone()
    with averaged_weights(optimizer):
        assert not torch.equal(params[0].data, trained)
    assert torch.equal(params[0].data, trained)
