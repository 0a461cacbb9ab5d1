"""The registry: every optimizer builds, learns, and refuses what it does not know."""

import importlib.util

import pytest
import torch
from materials import SHAPES, gradients, make_params, set_grads

from trustopt.optim import (
    OPTIMIZERS,
    AutoTrustGO,
    EmoLynx,
    build_optimizer,
    find_optimizer,
    optimizer_signals,
    resolve_options,
    step_optimizer,
)

NAMES = [
    "autotrustgo",
    "emonavi",
    "emofact",
    "emolynx",
    "emoclan",
    "emozeal",
    "emoneco",
    "adamw",
    "adamw8bit",
    "lion",
    "adafactor",
    "prodigy",
    "schedulefree",
]


def installed(name: str) -> str:
    if not OPTIMIZERS[name].is_available:
        pytest.skip(f"{OPTIMIZERS[name].requires} is not installed")
    if name == "adamw8bit" and not torch.cuda.is_available():
        pytest.skip("its 8-bit kernels are for GPUs")
    return name


def test_has_everything_in_order() -> None:
    assert list(OPTIMIZERS) == NAMES
    assert all(spec.name == name for name, spec in OPTIMIZERS.items())


@pytest.mark.parametrize("name", NAMES)
def test_options_are_complete(name: str) -> None:
    """Every option has a tooltip and a default within its own bounds, as a widget needs."""
    spec = OPTIMIZERS[name]
    assert spec.description
    names = [option.name for option in spec.options]
    assert len(set(names)) == len(names)
    for option in spec.options:
        assert option.tooltip.endswith((".", "%")), option.name
        if option.kind == "choice":
            assert option.default in option.choices
        if option.kind in ("float", "int"):
            assert option.minimum <= option.default <= option.maximum
            assert option.step > 0
    assert resolve_options(name, {}) == {o.name: o.default for o in spec.options}


@pytest.mark.parametrize("name", NAMES)
def test_builds_and_steps(name: str) -> None:
    # torch's Adafactor divides by the size of an empty tensor.
    shapes = [shape for shape in SHAPES if 0 not in shape]
    params = make_params(shapes)
    lr = OPTIMIZERS[name].suggested_lr or 1e-3
    optimizer = build_optimizer(installed(name), params, lr=lr, options={})
    before = [p.data.clone() for p in params]
    source = gradients(shapes)
    for _ in range(3):
        set_grads(params, next(source))
        step_optimizer(optimizer, 0.2)
    assert not any(torch.equal(p.data, b) for p, b in zip(params, before, strict=True))
    assert bool(optimizer_signals(optimizer)) == (OPTIMIZERS[name].family != "baseline")


@pytest.mark.parametrize("name", NAMES)
def test_options_reach_the_optimizer(name: str) -> None:
    decays = "weight_decay" in resolve_options(name, {})
    options = {"weight_decay": 0.25} if decays else {"trust_level": 0.5}
    params = make_params([(4, 4)])
    optimizer = build_optimizer(installed(name), params, lr=1e-3, options=options)
    ((key, value),) = options.items()
    assert optimizer.param_groups[0][key] == value


def test_passes_choices_and_keeps_the_trainers_own() -> None:
    optimizer = build_optimizer(
        "emolynx",
        make_params(),
        lr=1e-3,
        options={"version": "3.6", "use_shadow": True, "on_should_stop": "stop"},
    )
    assert isinstance(optimizer, EmoLynx)
    assert (optimizer.version, optimizer.use_shadow) == ("3.6", True)
    assert resolve_options("emolynx", {"on_should_stop": "stop"})["on_should_stop"] == "stop"
    optimizer = build_optimizer(
        "autotrustgo", make_params(), lr=1e-3, options={"formulation": "published"}
    )
    assert isinstance(optimizer, AutoTrustGO)
    assert optimizer.formulation == "published"


def test_only_variants_that_have_36_offer_it() -> None:
    with_version = [n for n in NAMES if any(o.name == "version" for o in OPTIMIZERS[n].options)]
    assert with_version == ["emonavi", "emofact", "emolynx"]
    with_decoupling = [
        n for n in NAMES if any(o.name == "decoupled_weight_decay" for o in OPTIMIZERS[n].options)
    ]
    assert with_decoupling == ["emolynx", "emoclan", "emoneco"]


@pytest.mark.parametrize(
    ("name", "lr", "options", "message"),
    [
        ("adam", 1e-3, {}, "unknown optimizer 'adam'; choose one of autotrustgo, emonavi"),
        (
            "emonavi",
            1e-3,
            {"beta3": 1},
            r"EmoNavi \(muooon\) has no option 'beta3'; it has version",
        ),
        ("emonavi", 0.0, {}, "lr must be above 0 and finite, got 0.0"),
        ("autotrustgo", 1e-3, {"trust_level": 2}, r"trust_level must be in \[0, 1\], got 2"),
        ("autotrustgo", 1e-3, {"trust_level": "x"}, "trust_level must be a number, got 'x'"),
        ("autotrustgo", 1e-3, {"formulation": "mine"}, "must be one of described, published"),
        ("emonavi", 1e-3, {"use_shadow": 1}, "use_shadow must be true or false, got 1"),
        ("emonavi", 1e-3, {"eps": float("nan")}, r"eps must be in \[0, 0.01\], got nan"),
    ],
)
def test_rejects(name: str, lr: float, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_optimizer(name, make_params(), lr=lr, options=options)


def test_a_missing_package_names_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trustopt.optim.registry.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="Prodigy needs the package prodigyopt: run  pip install"):
        build_optimizer("prodigy", make_params(), lr=1.0, options={})
    assert find_optimizer("adamw").is_available


def test_import_stays_light() -> None:
    """No baseline's package is imported before it is asked for."""
    found = {
        name
        for name in ("bitsandbytes", "lion_pytorch", "prodigyopt", "schedulefree")
        if importlib.util.find_spec(name)
    }
    code = "import sys, trustopt.optim; print(*sys.modules)"
    loaded = set(_python(code).split())
    assert not found & loaded
    assert "torch._inductor" not in loaded


def _python(code: str) -> str:
    import subprocess
    import sys
    from pathlib import Path

    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    return done.stdout
