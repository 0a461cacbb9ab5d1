"""Changes to live modules that are all undone, the last first."""

from collections.abc import Callable
from typing import Any

from torch import nn


class Patches:
    """An undo list. Undoing twice, or after someone else restored a module, is harmless."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], object]] = []
        self._forwards: dict[nn.Module, Callable[..., Any]] = {}

    def __bool__(self) -> bool:
        """Return whether anything is changed at the moment."""
        return bool(self._undo)

    def replace_forward(self, module: nn.Module, forward: Callable[..., Any]) -> None:
        """Shadow a module's ``forward`` by an instance attribute.

        It is restored only while it is still ours: another pack's ejection may have put back
        what it found.
        """
        shadowed = "forward" in module.__dict__
        before = module.__dict__.get("forward")
        module.__dict__["forward"] = forward
        self._forwards[module] = forward

        def undo() -> None:
            if module.__dict__.get("forward") is not forward:
                return
            if shadowed:
                module.__dict__["forward"] = before
            else:
                del module.__dict__["forward"]

        self._undo.append(undo)

    def has_own_forward(self, module: nn.Module) -> bool:
        """Return whether a module runs the forward we gave it last, and nobody else's."""
        return module in self._forwards and module.__dict__.get("forward") is self._forwards[module]

    def replace_child(self, parent: nn.Module, name: str, child: nn.Module) -> None:
        """Put another submodule in a module."""
        before = getattr(parent, name)
        setattr(parent, name, child)
        self._undo.append(lambda: setattr(parent, name, before))

    def freeze(self, parameter: nn.Parameter) -> None:
        """Let a parameter that some loader left trainable need no gradient."""
        if parameter.requires_grad and not parameter.is_inference():
            parameter.requires_grad_(False)
            self._undo.append(lambda: parameter.requires_grad_(True))

    def undo(self) -> None:
        """Restore everything; each change is forgotten before it is undone."""
        self._forwards.clear()
        while self._undo:
            self._undo.pop()()
