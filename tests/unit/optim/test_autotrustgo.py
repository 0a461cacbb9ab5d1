"""AutoTrustGO against its plain twins, and its own promises beside the formula."""

import pytest
import torch
from materials import SHAPES, gradients, make_params, set_grads
from plain_autotrustgo import Plain, PlainDescribed, PlainPublished

from trustopt.optim import AutoTrustGO

TWINS: dict[str, type[Plain]] = {"described": PlainDescribed, "published": PlainPublished}
LR = {"described": 1e-3, "published": 1e-2}


@pytest.mark.parametrize("formulation", TWINS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_matches_its_twin(formulation: str, dtype: torch.dtype) -> None:
    lr = LR[formulation]
    params, expected = make_params(dtype=dtype), [p.data.clone() for p in make_params(dtype=dtype)]
    groups = [{"params": params[:4]}, {"params": params[4:], "lr": 3 * lr}]
    lrs = [lr] * 4 + [3 * lr] * (len(params) - 4)
    optimizer = AutoTrustGO(groups, lr=lr, formulation=formulation)
    twin = TWINS[formulation](lr)
    source = gradients()

    for step in range(80):
        grads = [g.to(dtype) for g in next(source)]
        if step % 7 == 3:
            grads[1] = grads[6] = None
        if step % 11 == 5:
            grads[3] = torch.zeros_like(grads[3])
        set_grads(params, grads)
        optimizer.step()
        twin.step(expected, grads, lrs)

    for p, e in zip(params, expected, strict=True):
        torch.testing.assert_close(p.data, e, rtol=2e-4, atol=2e-6)
    signals = optimizer.signals()
    assert float(signals["mask_ema"]) == pytest.approx(twin.mask_ema, rel=1e-5)
    assert float(signals["flip_ema"]) == pytest.approx(twin.flip_ema, rel=1e-4)


@pytest.mark.parametrize("formulation", TWINS)
def test_bfloat16_is_computed_in_float32(formulation: str) -> None:
    """Each step equals the float32 twin's from the same weights, rounded once."""
    lr = 10 * LR[formulation]
    params = make_params(dtype=torch.bfloat16)
    optimizer = AutoTrustGO(params, lr=lr, formulation=formulation)
    twin = TWINS[formulation](lr)
    source = gradients()

    for _ in range(30):
        grads = [g.bfloat16() for g in next(source)]
        expected = [p.data.float() for p in params]
        set_grads(params, grads)
        optimizer.step()
        twin.step(expected, [g.float() for g in grads], [lr] * len(params))
        for p, e in zip(params, expected, strict=True):
            torch.testing.assert_close(p.data.float(), e, rtol=2**-8, atol=1e-6)

    assert all(
        v.dtype in (torch.float32, torch.int8) for s in optimizer.state.values() for v in s.values()
    )


@pytest.mark.parametrize("formulation", TWINS)
def test_float16_survives_zero_and_huge_gradients(formulation: str) -> None:
    params = make_params([(8, 8), (4,)], dtype=torch.float16)
    optimizer = AutoTrustGO(params, lr=1e-3, formulation=formulation)
    for scale in (0.0, 1.0, 6e4, 1e-7, 0.0):
        set_grads(params, [torch.full(p.shape, scale) for p in params])
        optimizer.step()
    assert all(p.isfinite().all() for p in params)
    assert all(s.isfinite() for s in optimizer.signals().values())


@pytest.mark.parametrize("formulation", TWINS)
def test_one_bad_tensor_does_not_poison_the_rest(formulation: str) -> None:
    params = make_params([(8, 8), (4, 4), (0, 3)])
    optimizer = AutoTrustGO(params, lr=1e-3, formulation=formulation)
    source = gradients([(8, 8), (4, 4), (0, 3)])
    for step in range(4):
        grads = next(source)
        if step == 2:
            grads[0][0, 0] = float("nan")
        set_grads(params, grads)
        optimizer.step()
    assert params[1].isfinite().all()
    assert optimizer.signals()["mask_ema"].isfinite()


def test_trust_level_may_differ_between_groups() -> None:
    """A published group value was accepted and ignored."""
    params = make_params([(8, 8), (8, 8)])
    params[1].data.copy_(params[0].data)
    start = params[0].data.clone()
    optimizer = AutoTrustGO(
        [{"params": [params[0]]}, {"params": [params[1]], "trust_level": 0.6}], trust_level=0.3
    )
    source = gradients([(8, 8)])
    for _ in range(10):
        grad = next(source)[0]
        set_grads(params, [grad, grad])
        optimizer.step()
    way = [float((p.data - start).norm()) for p in params]
    assert way[1] > 1.5 * way[0]


def test_tracking_the_published_confidence_changes_nothing() -> None:
    runs = []
    for tracked in (False, True):
        params = make_params()
        optimizer = AutoTrustGO(params, lr=1e-2, formulation="published", track_confidence=tracked)
        source = gradients()
        for _ in range(20):
            set_grads(params, next(source))
            optimizer.step()
        runs.append(params)
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    signals = optimizer.signals()
    assert 0.3 < float(signals["confidence_rank"]) < 0.6
    assert 0.0 < float(signals["confidence"]) < float(signals["confidence_rank"])
    assert "consensus" in optimizer.state[params[0]]


def test_signals_name_everything_the_recorder_shows() -> None:
    params = make_params()
    optimizer = AutoTrustGO(params)
    assert optimizer.signals() == {}
    set_grads(params, next(gradients()))
    optimizer.step()
    signals = optimizer.signals()
    assert set(signals) >= {
        "confidence",
        "confidence_rank",
        "confidence_stability",
        "danger",
        "mask",
        "mask_ema",
        "flip_ema",
        "threshold",
        "lr_effective",
        "update_norm",
    }
    assert all(value.dim() == 0 for value in signals.values())


def test_update_norm_is_the_length_of_the_step() -> None:
    for formulation in TWINS:
        params = make_params(SHAPES[:4])
        optimizer = AutoTrustGO(params, lr=1e-2, formulation=formulation)
        before = torch.cat([p.data.reshape(-1).clone() for p in params])
        set_grads(params, next(gradients(SHAPES[:4])))
        optimizer.step()
        moved = torch.cat([p.data.reshape(-1) for p in params]) - before
        assert float(optimizer.signals()["update_norm"]) == pytest.approx(
            float(moved.norm()), rel=1e-4
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": -1.0}, "lr must be >= 0"),
        ({"eps": -1.0}, "eps must be >= 0"),
        ({"formulation": "new"}, "formulation must be one of"),
        ({"track_confidence": True}, "track_confidence is for"),
    ],
)
def test_rejects(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AutoTrustGO(make_params(), **arguments)


def test_knows_no_weight_decay() -> None:
    with pytest.raises(TypeError, match="weight_decay"):
        AutoTrustGO(make_params(), weight_decay=0.01)
