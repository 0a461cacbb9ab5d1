"""The Emo family against its plain twins, and what all variants share."""

import logging
from dataclasses import replace

import pytest
import torch
from materials import OURS, SHAPES, gradients, losses, make_params, set_grads
from plain_emo import PlainEmo

from trustopt.optim import EmoClan, EmoFact, EmoLynx, EmoNavi, EmoNeco, EmoZeal

VARIANTS = {
    "navi": EmoNavi,
    "fact": EmoFact,
    "lynx": EmoLynx,
    "clan": EmoClan,
    "zeal": EmoZeal,
    "neco": EmoNeco,
}
LION_LIKE = ("lynx", "neco")
CASES = [(v, "3.0") for v in VARIANTS] + [(v, "3.6") for v in ("navi", "fact", "lynx")]


def twin_of(variant: str, version: str, use_shadow: bool) -> PlainEmo:
    beta2 = 0.995 if version == "3.6" else 0.99 if variant in LION_LIKE else 0.999
    return PlainEmo(variant, betas=(0.9, beta2), version=version, use_shadow=use_shadow)


@pytest.mark.parametrize(("variant", "version"), CASES)
@pytest.mark.parametrize("use_shadow", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_matches_its_twin(variant: str, version: str, use_shadow: bool, dtype: torch.dtype) -> None:
    params, expected = make_params(dtype=dtype), [p.data.clone() for p in make_params(dtype=dtype)]
    groups = [{"params": params[:3]}, {"params": params[3:]}]
    optimizer = VARIANTS[variant](groups, version=version, use_shadow=use_shadow)
    twin = twin_of(variant, version, use_shadow)
    bands = set()
    for grads, loss in zip(gradients(), losses(), strict=False):
        grads = [g.to(dtype) for g in grads]
        set_grads(params, grads)
        optimizer.step(loss=loss)
        twin.step(expected, grads, loss)
        size = abs(optimizer.loss_signal.scalar)
        assert size == pytest.approx(abs(twin.scalar()), rel=1e-12)
        bands.add((size > 0.1) + (size > 0.2) + (size > 0.3) + (size > 0.5) + (size > 0.6))
        if len(bands) == 6 or (version == "3.6" and len(optimizer.loss_signal.history) == 32):
            break

    for p, e in zip(params, expected, strict=True):
        torch.testing.assert_close(p.data, e, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(("variant", "version"), CASES)
def test_bfloat16_is_computed_in_float32(variant: str, version: str) -> None:
    """Each step equals the float32 twin's from the same weights, rounded once."""
    params = make_params(dtype=torch.bfloat16)
    optimizer = VARIANTS[variant](params, lr=1e-2, version=version)
    twin = replace(twin_of(variant, version, use_shadow=False), lr=1e-2)
    source, loss_source = gradients(), losses()
    for _ in range(30):
        grads, loss = [g.bfloat16() for g in next(source)], next(loss_source)
        expected = [p.data.float() for p in params]
        set_grads(params, grads)
        optimizer.step(loss=loss)
        twin.step(expected, [g.float() for g in grads], loss)
        for p, e in zip(params, expected, strict=True):
            torch.testing.assert_close(p.data.float(), e, rtol=2**-8, atol=1e-5)
    state = [v for s in optimizer.state.values() for v in s.values()]
    assert all(v.dtype == torch.float32 for v in state)


@pytest.mark.parametrize("variant", VARIANTS)
def test_float16_survives_zero_and_huge_gradients(variant: str) -> None:
    params = make_params([(8, 8), (4,)], dtype=torch.float16)
    optimizer = VARIANTS[variant](params)
    for scale, loss in ((0.0, 0.1), (1.0, 0.1), (6e4, 0.5), (1e-7, 0.1), (0.0, 0.3)):
        set_grads(params, [torch.full(p.shape, scale) for p in params])
        optimizer.step(loss=loss)
    assert all(p.isfinite().all() for p in params)


@pytest.mark.parametrize("variant", VARIANTS)
def test_loss_reaches_it_by_argument_and_by_closure(variant: str) -> None:
    runs = []
    for by_closure in (False, True):
        params = make_params()
        optimizer = VARIANTS[variant](params)
        source, loss_source = gradients(), losses()
        for _ in range(25):
            set_grads(params, next(source))
            loss = torch.tensor(next(loss_source))
            returned = optimizer.step(lambda: loss) if by_closure else optimizer.step(loss=loss)  # noqa: B023
            assert returned is loss
        runs.append(params)
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_closure_may_run_backward() -> None:
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = EmoNavi([p])

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (p**2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert (p < 1).all()


def test_a_missing_loss_warns_once_and_leaves_adam(caplog: pytest.LogCaptureFixture) -> None:
    params = make_params()
    optimizer = EmoNavi(params)
    source = gradients()
    with caplog.at_level(logging.WARNING, "trustopt"):
        for _ in range(3):
            set_grads(params, next(source))
            optimizer.step()
    assert [r.message for r in caplog.records] == [
        "EmoNavi.step() got no loss: its scalar stays 0, so it does not react to the training. "
        "Pass step(loss=loss)."
    ]
    assert float(optimizer.signals()["drive"]) == 1.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_loss_that_is_not_finite_is_ignored_and_counted(variant: str, bad: float) -> None:
    params = make_params()
    optimizer = VARIANTS[variant](params, use_shadow=True)
    source = gradients()
    for loss in (0.2, 0.5, bad, 0.4):
        scalar = optimizer.loss_signal.scalar
        set_grads(params, next(source))
        optimizer.step(loss=loss)
        if loss == bad or loss != loss:
            assert optimizer.loss_signal.scalar == scalar
    assert float(optimizer.signals()["num_skipped"]) == 1.0
    assert all(p.isfinite().all() for p in params)


def test_a_batch_of_losses_is_refused() -> None:
    params = make_params()
    set_grads(params, next(gradients()))
    with pytest.raises(ValueError, match="loss must be one number"):
        EmoNavi(params).step(loss=torch.ones(4))


def test_a_step_without_any_gradient_is_harmless() -> None:
    """Upstream fails in the step after such a one."""
    for variant in VARIANTS.values():
        params = make_params()
        optimizer = variant(params, use_shadow=True)
        optimizer.step(loss=0.3)
        set_grads(params, next(gradients()))
        optimizer.step(loss=0.1)
        assert optimizer.loss_signal.scalar != 0.0


def test_averages_advance_only_with_gradients() -> None:
    """v3.0 averages the loss over the steps in which a parameter had a gradient."""
    params = make_params([(4, 4), (4, 4)])
    optimizer = EmoNavi(params, lr=1e-2)
    alone = make_params([(4, 4), (4, 4)])
    lonely = EmoNavi([alone[1]], lr=1e-2)
    source = gradients([(4, 4), (4, 4)])
    for step, loss in enumerate((0.1, 0.5, 0.2, 0.4)):
        grads = next(source)
        second = None if step == 1 else grads[1]
        set_grads(params, [grads[0], second])
        set_grads(alone, [None, second])
        optimizer.step(loss=loss)
        if second is not None:
            lonely.step(loss=loss)
    assert torch.equal(params[1], alone[1])


def test_decoupled_decay_divides_by_the_lr_the_group_began_with() -> None:
    """Upstream divides by the constructor's, so that a group's own or a resumed one is wrong."""
    for cls in (EmoLynx, EmoNeco):
        params = make_params([(3, 3), (3, 3)])
        start = [p.data.clone() for p in params]
        optimizer = cls(
            [{"params": [params[0]]}, {"params": [params[1]], "lr": 1e-2}],
            lr=1e-3,
            weight_decay=0.1,
            decoupled_weight_decay=True,
        )
        for group in optimizer.param_groups:
            group["lr"] *= 0.5
        set_grads(params, [torch.zeros(3, 3)] * 2)
        optimizer.step(loss=0.1)
        for p, before in zip(params, start, strict=True):
            torch.testing.assert_close(p.data, 0.95 * before)


def test_full_damping_still_decays() -> None:
    """At scalar 1 the step is 0 and the decay is not: it must not be divided by that step."""
    for variant in VARIANTS.values():
        params = make_params([(4, 4)])
        before = params[0].data.clone()
        optimizer = variant(params, lr=0.1, weight_decay=0.1)
        optimizer.loss_signal.memory.short = optimizer.loss_signal.memory.medium = 0.0
        optimizer.loss_signal.memory.long = 0.0
        optimizer._memories[params[0]] = replace(optimizer.loss_signal.memory)
        set_grads(params, [torch.ones(4, 4)])
        optimizer.step(loss=1e4)
        assert abs(optimizer.loss_signal.scalar) == 1.0
        torch.testing.assert_close(params[0].data, 0.99 * before)


@pytest.mark.parametrize(
    ("cls", "arguments", "message"),
    [
        (EmoNavi, {"lr": -1.0}, "lr must be >= 0"),
        (EmoFact, {"eps": -1.0}, "eps must be >= 0"),
        (EmoZeal, {"weight_decay": -1.0}, "weight_decay must be >= 0"),
        (EmoLynx, {"betas": (0.9, 1.0)}, r"betas must be two numbers in \[0, 1\)"),
        (EmoClan, {"lynx_betas": (0.9,)}, "lynx_betas must be two numbers"),
        (EmoNeco, {"version": "3.6"}, "version must be one of"),
    ],
)
def test_rejects(cls: type, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cls(make_params(), **arguments)


def test_signals_name_the_loss_signal() -> None:
    for name, build in OURS.items():
        if name in ("described", "published"):
            continue
        params = make_params(SHAPES)
        optimizer = build(params)
        set_grads(params, next(gradients()))
        optimizer.step(loss=0.2)
        signals = optimizer.signals()
        assert set(signals) >= {"scalar", "drive", "should_stop", "ema_short", "ema_long"}
        assert ("ema_medium" in signals) == ("3.6" in name)
        assert all(value.dim() == 0 for value in signals.values())
