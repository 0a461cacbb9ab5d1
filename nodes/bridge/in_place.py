"""Whether a loaded network's weights stay where they are, so that its kernels can be recorded."""

from collections.abc import Hashable
from typing import Any

from torch import nn

from ...trustopt.addresses import WeightAddresses

_CODE = ("patches", "patches_replace", "wrappers", "callbacks")
"""Entries of ``transformer_options`` that hold functions of other nodes."""


class WeightsInPlace:
    """Answers ``Host.weights_in_place`` for one session.

    With ComfyUI's dynamic memory the weights are not tensors of the modules, but in pages of a
    reserved range of addresses, which may be taken away and filled again. Each page has a number
    that then changes. Where all pages are there and as they were, so are the weights.

    Args:
        patcher: The session's own, loaded.
        root: The network.
        own_injections: Keys of the session's injections.
    """

    def __init__(self, patcher: Any, root: nn.Module, own_injections: tuple[str, ...]) -> None:
        self._patcher, self._root, self._own = patcher, root, own_injections
        self._addresses = WeightAddresses(root)
        self._complete: bytes | None = None
        """The pages' numbers when every module was last found to use them."""

    def now(self) -> Hashable | None:
        """Return what changes when a weight moves; None if that cannot be relied on."""
        if self._runs_other_code():
            return None
        if not self._patcher.is_dynamic():
            return self._addresses.on(self._patcher.load_device)
        return self._pages()

    def _runs_other_code(self) -> bool:
        """Return whether other packs' functions run in the network: they may do anything."""
        patcher = self._patcher
        options = patcher.model_options.get("transformer_options", {})
        found = [options.get(kind) for kind in _CODE] + [patcher.wrappers, patcher.callbacks]
        others = [key for key in patcher.injections if key not in self._own]
        return bool(others) or any(_functions(node) for node in found)

    def _pages(self) -> bytes | None:
        vbar = self._patcher._vbar_get()
        if vbar is None or not vbar.offset:
            return None
        numbers = vbar.fault(vbar.base_addr, vbar.offset)
        if numbers is None:  # they do not fit
            return None
        vbar.unpin(vbar.base_addr, vbar.offset)
        found = bytes(numbers)
        if found != self._complete:
            if not all(_is_resident(module) for module in self._root.modules()):
                return None
            self._complete = found
        return found


def _functions(node: Any) -> bool:
    """Return whether nested containers hold anything."""
    if isinstance(node, dict):
        return any(_functions(value) for value in node.values())
    return bool(node) if isinstance(node, list | tuple) else node is not None


def _is_resident(module: nn.Module) -> bool:
    """Return whether a module's weight, kept in pages, is there as the module knows it."""
    import comfy_aimdo.model_vbar as pages

    place = getattr(module, "_v", None)
    if place is None:
        return all(p.device.type != "cpu" for p in module.parameters(recurse=False))
    signature = pages.vbar_fault(place)
    if signature is None:
        return False
    pages.vbar_unpin(place)
    own = getattr(module, "_v_signature", None)
    return own is not None and pages.vbar_signature_compare(signature, own)
