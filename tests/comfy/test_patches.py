"""The undo list: what is restored, and what is somebody else's by then."""

import torch
from trustopt_pack.nodes.bridge.patches import Patches


def test_everything_is_restored_last_first() -> None:
    module = torch.nn.Sequential(torch.nn.Identity())
    own = module[0]
    patches = Patches()
    assert not patches

    patches.replace_forward(module, lambda x: x + 1)
    patches.replace_forward(module, lambda x: x + 2)
    patches.replace_child(module, "0", torch.nn.ReLU())
    assert patches
    assert module(1) == 3
    assert patches.has_own_forward(module)

    patches.undo()
    patches.undo()
    assert not patches
    assert not patches.has_own_forward(module)
    assert module[0] is own
    assert "forward" not in module.__dict__


def test_a_forward_somebody_put_there_before_comes_back() -> None:
    module = torch.nn.Identity()
    before = module.forward = lambda x: x - 1
    patches = Patches()
    patches.replace_forward(module, lambda x: x + 1)
    patches.undo()
    assert module.__dict__["forward"] is before


def test_a_forward_somebody_put_there_since_stays() -> None:
    module = torch.nn.Identity()
    patches = Patches()
    patches.replace_forward(module, lambda x: x + 1)
    theirs = module.forward = lambda x: x - 1
    assert not patches.has_own_forward(module)
    patches.undo()
    assert module.__dict__["forward"] is theirs


def test_only_trainable_parameters_are_frozen_and_thawed() -> None:
    module = torch.nn.Linear(2, 2)
    module.bias.requires_grad_(False)
    patches = Patches()
    for parameter in module.parameters():
        patches.freeze(parameter)
    assert not module.weight.requires_grad
    patches.undo()
    assert module.weight.requires_grad
    assert not module.bias.requires_grad
