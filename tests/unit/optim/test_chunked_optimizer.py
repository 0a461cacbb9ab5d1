"""What every optimizer of ours owes: exact resume, groups, schedulers, scaling, clear errors."""

import copy
import io
import multiprocessing
import socket

import pytest
import torch
from materials import OURS, gradients, losses, make_params, set_grads
from plain_emo import PlainEmo

from trustopt.optim import AutoTrustGO, EmoNavi

each_of_ours = pytest.mark.parametrize("name", OURS)


def run(
    optimizer: torch.optim.Optimizer,
    params: list[torch.nn.Parameter],
    steps: range,
    *,
    some_missing: bool = False,
) -> None:
    """Take the steps of one fixed story, whichever part of it is asked for."""
    source, loss_source = gradients(), losses()
    for step in range(steps.stop):
        grads, loss = next(source), next(loss_source)
        if step not in steps:
            continue
        if some_missing and step % 3 == 1:
            grads = [None if i % 2 else g for i, g in enumerate(grads)]
        set_grads(params, grads)
        optimizer.step(loss=loss)


def saved_and_read(state: dict) -> dict:
    """Through a file, reading nothing but tensors and numbers."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@each_of_ours
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_resumes_bit_for_bit(name: str, dtype: torch.dtype) -> None:
    build, extra = OURS[name], {"stochastic_rounding": dtype == torch.bfloat16}
    if name not in ("described", "published"):
        extra["use_shadow"] = True
    straight = make_params(dtype=dtype)
    optimizer = build(straight, **extra)
    run(optimizer, straight, range(15), some_missing=True)
    resumed = copy.deepcopy(straight)
    state = saved_and_read(optimizer.state_dict())
    run(optimizer, straight, range(15, 40), some_missing=True)

    again = build(resumed, **extra)
    again.load_state_dict(state)
    run(again, resumed, range(15, 40), some_missing=True)

    assert all(torch.equal(a, b) for a, b in zip(straight, resumed, strict=True))
    for key, value in optimizer.signals().items():
        assert torch.equal(again.signals()[key], value), key
    assert same(optimizer.state_dict(), again.state_dict())


def same(a: object, b: object) -> bool:
    """Equality of nested states, tensors included, types too."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@each_of_ours
def test_loading_leaves_the_given_state_alone(name: str) -> None:
    params = make_params()
    optimizer = OURS[name](params)
    run(optimizer, params, range(3))
    state = copy.deepcopy(optimizer.state_dict())
    kept = copy.deepcopy(state)
    again = OURS[name](make_params())
    again.load_state_dict(state)
    run(again, again.param_groups[0]["params"], range(3, 6))
    assert same(state, kept)


@each_of_ours
def test_state_has_no_step_counter_and_no_stranger(name: str) -> None:
    params = make_params()
    optimizer = OURS[name](params)
    run(optimizer, params, range(5))
    assert all(isinstance(key, torch.Tensor) for key in optimizer.state)
    for values in optimizer.state.values():
        assert "step" not in values
        assert all(isinstance(v, torch.Tensor) for v in values.values())


@each_of_ours
def test_copies_and_goes_on(name: str) -> None:
    params = make_params()
    optimizer = OURS[name](params)
    run(optimizer, params, range(6))
    twin = copy.deepcopy(optimizer)
    twins_params = twin.param_groups[0]["params"]
    run(optimizer, params, range(6, 12))
    run(twin, twins_params, range(6, 12))
    assert all(torch.equal(a, b) for a, b in zip(params, twins_params, strict=True))


@each_of_ours
def test_a_late_group_joins(name: str) -> None:
    params = make_params()
    together, late = OURS[name](params[:5]), params[5:]
    run(together, params[:5] + [torch.nn.Parameter(p.data) for p in late], range(4))
    together.add_param_group({"params": late, "lr": 1e-2})
    before = late[1].data.clone()
    run(together, params, range(4, 8))
    assert not torch.equal(late[1].data, before)
    assert all(p.isfinite().all() for p in params)


@each_of_ours
def test_obeys_a_scheduler(name: str) -> None:
    params = make_params()
    optimizer = OURS[name](params, lr=1e-3)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0 if step >= 2 else 1.0)
    source, loss_source = gradients(), losses()
    for step in range(4):
        before = [p.data.clone() for p in params]
        set_grads(params, next(source))
        optimizer.step(loss=next(loss_source))
        scheduler.step()
        moved = any(not torch.equal(p.data, b) for p, b in zip(params, before, strict=True))
        assert moved == (step < 2)


@each_of_ours
def test_works_under_a_gradient_scaler(name: str) -> None:
    scaled, plain = make_params(), make_params()
    optimizer, reference = OURS[name](scaled), OURS[name](plain)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    scaler.scale(torch.ones(()))  # creates the scale
    for step, (grads, loss) in enumerate(zip(gradients(), losses(), strict=False)):
        bad = step == 2
        set_grads(scaled, [g * scaler.get_scale() * (float("inf") if bad else 1.0) for g in grads])
        scaler.step(optimizer, loss=loss)
        scaler.update()
        if not bad:
            set_grads(plain, grads)
            reference.step(loss=loss)
        if step == 5:
            break
    for a, b in zip(scaled, plain, strict=True):
        torch.testing.assert_close(a.data, b.data, rtol=1e-5, atol=1e-6)


@each_of_ours
def test_refuses_sparse_and_complex(name: str) -> None:
    p = torch.nn.Parameter(torch.randn(4, 3))
    optimizer = OURS[name]([p])
    p.grad = torch.zeros(4, 3).to_sparse()
    with pytest.raises(ValueError, match="takes dense gradients"):
        optimizer.step(loss=0.1)
    with pytest.raises(ValueError, match="takes real parameters"):
        OURS[name]([torch.nn.Parameter(torch.zeros(3, dtype=torch.complex64))])


@each_of_ours
def test_small_bfloat16_updates_survive_random_rounding(name: str) -> None:
    ends = {}
    for stochastic in (False, True):
        # At 100 the next bfloat16 is half a unit away, far more than any step.
        p = torch.nn.Parameter(torch.full((64, 64), 100.0, dtype=torch.bfloat16))
        optimizer = OURS[name]([p], lr=1e-2, stochastic_rounding=stochastic)
        if "weight_decay" in optimizer.defaults:
            optimizer.param_groups[0]["weight_decay"] = 0.0
        for _ in range(20):
            p.grad = torch.ones_like(p)
            optimizer.step(loss=0.1)
        ends[stochastic] = float(p.data.float().mean())
    assert ends[False] == 100.0
    assert 97.0 < ends[True] < 99.99


def test_rejects_a_state_of_another_rule() -> None:
    params = make_params()
    state = AutoTrustGO(params, formulation="published").state_dict()
    with pytest.raises(ValueError, match="resume with formulation='published'"):
        AutoTrustGO(make_params()).load_state_dict(state)
    state = EmoNavi(params, version="3.6").state_dict()
    with pytest.raises(ValueError, match=r"resume with version='3\.6'"):
        EmoNavi(make_params()).load_state_dict(state)


def test_loads_a_published_autotrustgo_state() -> None:
    """Upstream's holds momentum, consensus and (once reloaded) a float sign; lr is the group's."""
    params = make_params([(4, 4), (6,)])
    old = {
        "state": {
            i: {
                "momentum": torch.full_like(p, 0.5),
                "consensus": torch.ones_like(p),
                "prev_sign": torch.ones_like(p),
            }
            for i, p in enumerate(params)
        },
        "param_groups": [{"lr": 2e-2, "params": [0, 1]}],
    }
    optimizer = AutoTrustGO(params, formulation="published", trust_level=0.3)
    optimizer.load_state_dict(old)
    assert optimizer.param_groups[0]["lr"] == 2e-2
    set_grads(params, [torch.ones(4, 4), torch.ones(6)])
    optimizer.step()
    state = optimizer.state[params[0]]
    assert state["prev_sign"].dtype == torch.int8
    torch.testing.assert_close(state["momentum"], torch.full((4, 4), 0.94 * 0.5 + 1.0))
    assert float(optimizer.signals()["flip"]) == 0.0
    assert "consensus" not in state


def test_loads_a_published_emo_state() -> None:
    """Upstream's v3.0 keeps a pair of averages in each parameter's state, and a list beside."""
    params = make_params([(4, 4), (6,)])
    twin = PlainEmo("navi")
    expected = [p.data.clone() for p in params]
    source, loss_source = gradients([(4, 4), (6,)]), losses()
    for _ in range(5):
        twin.step(expected, next(source), next(loss_source))
    for p, e in zip(params, expected, strict=True):
        p.data.copy_(e)
    short, _, long = twin.averages
    old = {
        "state": {
            0: values(twin, 0, short, long),
            1: values(twin, 1, short, long),
            "scalar_hist": [0.1] * 10,
        },
        "param_groups": [
            {
                "lr": 1e-3,
                "betas": (0.9, 0.999),
                "eps": 1e-8,
                "weight_decay": 0.01,
                "params": [0, 1],
            }
        ],
    }
    optimizer = EmoNavi(params)
    optimizer.load_state_dict(old)
    for _ in range(5):
        grads, loss = next(source), next(loss_source)
        set_grads(params, grads)
        optimizer.step(loss=loss)
        twin.step(expected, grads, loss)
    for p, e in zip(params, expected, strict=True):
        torch.testing.assert_close(p.data, e)


def values(twin: PlainEmo, i: int, short: float, long: float) -> dict:
    return {
        "exp_avg": twin.state[i]["m"].clone(),
        "exp_avg_sq": twin.state[i]["v"].clone(),
        "ema": {"short": short, "long": long},
    }


@each_of_ours
def test_state_replaced_from_outside_is_used(name: str) -> None:
    """Programs that move optimizer state put new tensors into ``state``."""
    params, expected = make_params(), make_params()
    optimizer, reference = OURS[name](params), OURS[name](expected)
    run(optimizer, params, range(3))
    run(reference, expected, range(3))
    for values_of in optimizer.state.values():
        for key, value in values_of.items():
            values_of[key] = value.clone()
    run(optimizer, params, range(3, 6))
    run(reference, expected, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(params, expected, strict=True))


def test_many_chunks_equal_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, build in OURS.items():
        ends = []
        for limit in (1 << 20, 50):
            monkeypatch.setattr("trustopt.optim.chunks.CPU_CHUNK", limit)
            params = make_params()
            run(build(params), params, range(12))
            ends.append(params)
        for a, b in zip(*ends, strict=True):
            torch.testing.assert_close(a.data, b.data, rtol=2e-5, atol=1e-6, msg=name)


def _rank(rank: int, port: int, results: multiprocessing.Queue) -> None:
    store = torch.distributed.TCPStore("127.0.0.1", port, 2, rank == 0)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    p = torch.nn.Parameter(torch.ones(3, 3))
    optimizer = EmoNavi([p], lr=1e-2)
    for step in range(6):
        p.grad = torch.ones(3, 3)  # as averaged by data-parallel training
        loss = 0.1 + 0.2 * step * rank  # what each rank saw
        optimizer.step(loss=float("nan") if step == 3 and rank else loss)
    results.put((rank, p.tolist(), optimizer.loss_signal.state_dict()))
    torch.distributed.destroy_process_group()


def test_ranks_stay_identical() -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    workers = [context.Process(target=_rank, args=(rank, port, results)) for rank in range(2)]
    for worker in workers:
        worker.start()
    got = [results.get(timeout=60) for _ in workers]
    ends = {rank: (p, signal) for rank, p, signal in got}
    for worker in workers:
        worker.join(timeout=60)
    assert ends[0] == ends[1]
    assert ends[0][1]["num_skipped"] == 1
    assert ends[0][1]["scalar"] > 0.0
