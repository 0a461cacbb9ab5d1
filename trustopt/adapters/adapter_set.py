"""The adapters of one training run: what the optimizer trains, the host inserts, a file stores."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from ..config import AdapterConfig
from ..host import LayerShape
from .dropout import MaskSeed
from .factors import place, shrink, to_factors, to_patch
from .half_weights import HalfWeights
from .layers import ZERO_FACTORS, DoraLayer
from .patch import LayerPatch, norm
from .settings import LayerSettings


class AdapterSet(Mapping[str, nn.Module]):
    """Adapter layers by canonical name, in the order of the host's layers.

    A host takes each layer, sets its ``base_layer`` to the real layer, swaps it in, and on exit
    sets ``base_layer`` back to None (``release`` does that for all). What this class enumerates
    are the adapters' own tensors only, whatever base layers are inside at the time.

    DoRA layers read ``base_layer.weight`` in every forward (``needs_base_weight``) and OFT layers
    ``base_layer.bias``; see ``trustopt/adapters/layers.py``.
    """

    def __init__(
        self,
        layers: Mapping[str, Any],
        shapes: Mapping[str, LayerShape],
        config: AdapterConfig,
        settings: Mapping[str, LayerSettings],
        mask_seed: MaskSeed,
    ) -> None:
        self.layers = dict(layers)
        self.shapes = {name: shapes[name] for name in layers}
        self.config = config
        self.settings = dict(settings)
        self._mask_seed = mask_seed
        self._half_weights = HalfWeights(self.layers.values())
        self._tensors = {n: [_Tensor(n, *found) for found in _find(layers[n])] for n in layers}

    def __getitem__(self, name: str) -> nn.Module:
        return self.layers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    @property
    def needs_base_weight(self) -> bool:
        """Whether the layers read their base layer's weight in the forward (DoRA)."""
        return any(isinstance(layer, DoraLayer) for layer in self.layers.values())

    @property
    def num_parameters(self) -> int:
        """Trainable scalars."""
        return sum(p.numel() for p in self.parameters())

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield ``<canonical layer>.<factor>`` and parameter, in a stable order."""
        for tensor in self._all():
            if isinstance(tensor.value, nn.Parameter):
                yield tensor.name, tensor.value

    def parameters(self) -> list[nn.Parameter]:
        """Return the trainable parameters, float32, in the order of ``named_parameters``."""
        return [parameter for _, parameter in self.named_parameters()]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return ``params``, ``names`` and ``lr_scale`` for each distinct factor on the lr.

        The factor is the layer's own times LoRA+'s for the matrices that begin at zero.

        Source:
            Hayou et al. 2024, "LoRA+", arXiv:2402.12354.
        """
        groups: dict[float, dict[str, Any]] = {}
        for tensor in self._all():
            if isinstance(tensor.value, nn.Parameter):
                scale = self.settings[tensor.layer].lr_scale
                if tensor.factor.partition(".")[0] in ZERO_FACTORS:
                    scale *= self.config.lora_plus_ratio
                group = groups.setdefault(scale, {"params": [], "names": [], "lr_scale": scale})
                group["params"].append(tensor.value)
                group["names"].append(tensor.name)
        return list(groups.values())

    def tensors(self, layer: str) -> dict[str, Tensor]:
        """Return one layer's live tensors by factor, such as ``lora_A.weight``."""
        return {tensor.factor: tensor.value for tensor in self._tensors[layer]}

    def state_dict(self) -> dict[str, Tensor]:
        """Return a float32 CPU copy of every tensor, to resume from; no base weights."""
        return {
            tensor.name: tensor.value.detach().to("cpu", copy=True).contiguous()
            for tensor in self._all()
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Copy the tensors of ``state_dict`` back.

        Raises:
            ValueError: If names or shapes differ from this set's.
        """
        own = {tensor.name: tensor.value for tensor in self._all()}
        missing, unknown = own.keys() - state.keys(), state.keys() - own.keys()
        if missing or unknown:
            raise ValueError(
                f"the saved state is of other adapters: {len(missing)} tensors missing "
                f"({min(missing, default='none')}), {len(unknown)} unknown "
                f"({min(unknown, default='none')}); "
                "resume with the algorithm and targets the run was started with"
            )
        for name, value in own.items():
            if value.shape != state[name].shape:
                raise ValueError(
                    f"the saved state has another rank: {name} is {tuple(state[name].shape)}, "
                    f"this run's is {tuple(value.shape)}; resume with the rank it was started with"
                )
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(state[name])

    @torch.no_grad()
    def zero_delta(self) -> None:
        """Make every layer's change zero, leaving the factors that are random at the start."""
        for tensor in self._all():
            factor = tensor.factor.partition(".")[0]
            if factor in ZERO_FACTORS:
                tensor.value.zero_()
            elif factor == "magnitude":
                tensor.value.fill_(1.0)

    def patch(self, name: str) -> LayerPatch:
        """Return one layer's change in the form of files; see ``patches``."""
        layer, rank = self.layers[name], self.settings[name].rank
        return to_patch(layer, self.tensors(name), self.config.algorithm, rank)

    def patches(self) -> dict[str, LayerPatch]:
        """Return every layer's change in the form of files, as the live tensors hold it.

        Raises:
            ValueError: For DoRA before the first forward.
        """
        return {name: self.patch(name) for name in self.layers}

    def load_patches(self, patches: Mapping[str, LayerPatch]) -> list[str]:
        """Start from a file's patches; layers the file lacks keep their zero change.

        The adapters' own alpha stays, and the factors absorb the ratio to the file's. A LoRA
        of lower rank fills the first components.

        Returns:
            Names of the layers that only the file has.

        Raises:
            ValueError: If a patch is of another algorithm, model or a larger rank.
        """
        with torch.no_grad():
            for name in (name for name in self.layers if name in patches):
                own, patch = self.tensors(name), patches[name]
                try:
                    factors = to_factors(self.layers[name], patch, self.config.algorithm)
                    if not factors.keys() <= own.keys():
                        raise ValueError(f"its factors are {', '.join(sorted(factors))}")
                    for factor, value in factors.items():
                        place(own[factor], value, factor)
                except ValueError as error:
                    raise ValueError(f"cannot continue {name}: {error}") from error
        return [name for name in patches if name not in self.layers]

    def delta_norms(self) -> dict[str, float]:
        """Return the Frobenius norm of each layer's change (of R - I for OFT)."""
        return {name: norm(self.patch(name)) for name in self.layers}

    @torch.no_grad()
    def clamp_norms(self) -> int:
        """Shrink every change longer than ``config.max_norm`` to it, as sd-scripts' max-norm.

        Returns:
            Number of layers shrunk; 0 when the bound is off.
        """
        bound = self.config.max_norm
        if bound == 0.0:
            return 0
        too_long = {name: n for name, n in self.delta_norms().items() if n > bound}
        for name, length in too_long.items():
            shrink(self.tensors(name), bound / length)
        return len(too_long)

    def _all(self) -> Iterator["_Tensor"]:
        return chain.from_iterable(self._tensors.values())

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Run the base model alone inside the block, adapters in place but without effect."""
        for layer in self.layers.values():
            layer.enable_adapters(False)
        try:
            yield
        finally:
            for layer in self.layers.values():
                layer.enable_adapters(True)

    @contextmanager
    def dropout(self, generator: torch.Generator) -> Iterator[None]:
        """Turn dropout on for one micro-batch's forward and backward; off outside.

        Args:
            generator: CPU generator; one number is drawn. Without any dropout configured, none.
        """
        config = self.config
        if max(config.dropout, config.rank_dropout, config.module_dropout) > 0.0:
            drawn = torch.randint(2**62, (), generator=generator, dtype=torch.int64)
            self._mask_seed.value = int(drawn)
        try:
            yield
        finally:
            self._mask_seed.value = None

    def in_dtype(self, dtype: torch.dtype) -> AbstractContextManager[None]:
        """Run one micro-batch's forward and backward on weights copied to ``dtype``.

        The float32 masters get the gradients when the block ends; see ``half_weights``.
        """
        return self._half_weights.held(dtype)

    def to(self, device: torch.device | str) -> "AdapterSet":
        """Move the adapters' tensors, not their base layers; parameters stay the same objects."""
        for layer in self.layers.values():
            base_layer, layer.base_layer = layer.base_layer, None
            layer.to(device)
            layer.base_layer = base_layer
        return self

    def release(self) -> None:
        """Let go of every base layer."""
        for layer in self.layers.values():
            layer.base_layer = None


@dataclass(frozen=True)
class _Tensor:
    """Where one adapter tensor lives."""

    layer: str
    factor: str
    owner: nn.Module
    attribute: str

    @property
    def name(self) -> str:
        return f"{self.layer}.{self.factor}"

    @property
    def value(self) -> Tensor:
        return getattr(self.owner, self.attribute)


def _find(layer: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """Yield factor, owner and attribute of a layer's tensors.

    PEFT names a factor ``lora_A.default.weight``; its adapter name ``default`` is left out.
    """
    for path in dict(layer.named_parameters()) | dict(layer.named_buffers()):
        owner, _, attribute = path.rpartition(".")
        if attribute not in ("rows", "cols"):  # constants of PEFT's rotation
            factor = ".".join(part for part in path.split(".") if part != "default")
            yield factor, layer.get_submodule(owner), attribute
