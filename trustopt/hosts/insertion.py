"""Puts adapters into a diffusers network and takes them out again."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from ..host import LayerShape
from .fused import FusedLinear, HalvesSwapped, Rows, SharedForward
from .names import Names, Part


def trainable_layers(network: nn.Module, names: Names) -> dict[str, LayerShape]:
    """Return the shape of every linear and convolutional layer, by canonical name."""
    shapes: dict[str, LayerShape] = {}
    for name, parts in names.items():
        modules = [network.get_submodule(part.module) for part in parts]
        if isinstance(modules[0], nn.Conv2d):
            shapes[name] = convolution_shape(modules[0])
        elif isinstance(modules[0], nn.Linear):
            shapes[name] = LayerShape(
                kind="linear",
                in_features=modules[0].in_features,
                out_features=sum(module.out_features for module in modules),  # pyright: ignore
            )
    return shapes


def convolution_shape(layer: nn.Conv2d) -> LayerShape:
    """Return a convolution's shape."""
    padding = layer.padding
    assert isinstance(padding, tuple), "padding given as a word is not used by these networks"
    return LayerShape(
        kind="conv2d",
        in_features=layer.in_channels,
        out_features=layer.out_channels,
        kernel_size=(layer.kernel_size[0], layer.kernel_size[1]),
        stride=(layer.stride[0], layer.stride[1]),
        padding=(padding[0], padding[1]),
    )


@contextmanager
def inserted(
    network: nn.Module, names: Mapping[str, Sequence[Part]], adapters: Mapping[str, nn.Module]
) -> Iterator[None]:
    """Run ``network`` through adapters inside the block; on exit it is what it was.

    Args:
        network: The diffusers (or transformers) module.
        names: Where each canonical layer is in it.
        adapters: Layers with a ``base_layer``, by canonical name.
    """
    with ExitStack() as undo:
        for name, adapter in adapters.items():
            _insert(network, names[name], adapter, undo)
        yield


def _insert(network: nn.Module, parts: Sequence[Part], adapter: Any, undo: ExitStack) -> None:
    modules: list[Any] = [network.get_submodule(part.module) for part in parts]
    stand_ins: list[nn.Module]
    if len(parts) > 1:
        base: nn.Module = FusedLinear(modules)
        shared = SharedForward(adapter, base.sizes)
        stand_ins = [Rows(shared, index) for index in range(len(parts))]
    elif parts[0].swapped:
        base, stand_ins = HalvesSwapped(modules[0]), [HalvesSwapped(adapter)]
    else:
        base, stand_ins = modules[0], [adapter]
    undo.callback(setattr, adapter, "base_layer", adapter.base_layer)
    adapter.base_layer = base
    for part, module, stand_in in zip(parts, modules, stand_ins, strict=True):
        owner, _, attribute = part.module.rpartition(".")
        place = network.get_submodule(owner)
        undo.callback(setattr, place, attribute, module)
        setattr(place, attribute, stand_in)
