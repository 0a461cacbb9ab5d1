"""Adapters in a loaded model for the time of a ``with`` block, everything undone on every exit.

Adapters and frozen layers are put in and taken out by ComfyUI's own injections, so that whatever
loads, unloads, clones or samples the model in between finds it in a known state: the original
MODEL never shows a half-trained network, and the training clone always does.

Nothing enters the module tree. A layer's ``forward`` is shadowed on the instance, so its weights
keep their names and places, and ComfyUI's loader, LoRAs and quantisation go on working.
"""

from collections.abc import Hashable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import torch
from comfy.patcher_extension import PatcherInjection, WrappersMP
from comfy_api.torch_helpers.torch_compile import COMPILE_KEY
from torch import nn

from ...trustopt.host import Family
from .blocks import ADDS_IN_PLACE, BLOCKS, in_training, training_block
from .frozen_ops import FrozenLayer, differentiable, frozen_linear_map, frozen_norm
from .in_place import WeightsInPlace
from .layers import kind_of, text_encoder_paths, trainable_layers
from .patches import Patches

_FREEZE = "trustopt_freeze"
_TRAIN = "trustopt_train"
_NORMS = (nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


@dataclass(frozen=True, kw_only=True)
class Trainee:
    """A model that adapters go into: the network, or the text encoders."""

    patcher: Any
    """A clone of the MODEL's or CLIP's patcher, of this session alone."""
    root: nn.Module
    """The module whose layers are frozen and adapted."""
    paths: Mapping[str, str]
    """Canonical layer name -> path below ``root``."""
    blocks: tuple[type[nn.Module], ...] = ()
    """What is recomputed in backward."""
    adds_in_place: bool
    """Whether the forward adds to tensors that autograd has saved."""


def network_of(model: Any, family: Family) -> Trainee:
    """Return a MODEL's network as what is trained."""
    patcher = model.clone()
    # A compiled network is another module, which has no adapters: samples would not show them.
    patcher.remove_wrappers_with_key(WrappersMP.APPLY_MODEL, COMPILE_KEY)
    root = patcher.model.diffusion_model
    return Trainee(
        patcher=patcher,
        root=root,
        paths={name: name for name in trainable_layers(root)},
        blocks=BLOCKS[family],
        adds_in_place=ADDS_IN_PLACE[family],
    )


def text_encoders_of(clip: Any) -> Trainee:
    """Return a CLIP's text encoders as what is trained; they are too small to recompute."""
    return Trainee(
        patcher=clip.patcher,
        root=clip.cond_stage_model,
        paths=text_encoder_paths(clip.cond_stage_model),
        adds_in_place=True,
    )


@contextmanager
def training_session(
    trainee: Trainee,
    adapters: Mapping[str, nn.Module],
    *,
    checkpointing: bool,
    reserve_memory: int = 0,
) -> Iterator["TrainingSession"]:
    """Open a session, with autograd on and inference mode off inside the block.

    Args:
        trainee: What the adapters go into.
        adapters: Canonical layer name -> PEFT layer. They are moved to the model's device,
            keeping each Parameter's identity, and back when the session ends.
        checkpointing: Recompute each block in backward.
        reserve_memory: Bytes ComfyUI leaves free for activations when it loads weights.

    Raises:
        ValueError: If an adapter's name is no layer of the model.
        RuntimeError: If adapters were made in inference mode, whose tensors cannot be trained.
    """
    with ExitStack() as stack:
        # Nodes run in inference mode; tensors made there cannot take part in autograd.
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        session = TrainingSession(trainee, adapters, checkpointing, reserve_memory)
        stack.callback(session.close)
        session.open()
        yield session


class TrainingSession:
    """A patcher whose injections train; see ``training_session``."""

    def __init__(
        self,
        trainee: Trainee,
        adapters: Mapping[str, nn.Module],
        checkpointing: bool,
        reserve_memory: int,
    ) -> None:
        self.trainee = trainee
        self.patcher = trainee.patcher
        self.adapters = adapters
        self.checkpointing = checkpointing
        self.reserve_memory = reserve_memory
        self._patches = Patches()
        self._homes: dict[str, torch.device] = {}
        self._has_sampled = False
        self._began = False
        self._in_place: WeightsInPlace | None = None

    def open(self) -> None:
        """Register the injections and load the model, which runs them."""
        _check_adapters(self.adapters, self.trainee.paths)
        for name, adapter in self.adapters.items():
            self._homes[name] = _move(adapter, self.patcher.load_device)
        # ComfyUI ejects in the order it injects. So the first injection freezes layers *under*
        # other packs' hooks and ejects nothing; the last adds the adapters and, when the others
        # have let go, undoes everything.
        self.patcher.injections = {
            _FREEZE: [PatcherInjection(inject=self._freeze, eject=_leave)],
            **self.patcher.injections,
            _TRAIN: [PatcherInjection(inject=self._insert, eject=self._restore)],
        }
        self.load()

    def close(self) -> None:
        """Undo everything, whatever state an exception left."""
        try:
            self._end_running()
            self.patcher.eject_model()
        finally:
            self._patches.undo()
            self.patcher.remove_injections(_FREEZE)
            self.patcher.remove_injections(_TRAIN)
            for name, device in self._homes.items():
                _move(self.adapters[name], device)

    def load(self) -> None:
        """Load the model as every node does, with the adapters injected.

        Loading outside inference mode would turn quantised weights into normal tensors, which
        the next node cannot move any more.
        """
        with torch.inference_mode(True):
            comfy.model_management.load_models_gpu(
                [self.patcher], memory_required=self.reserve_memory
            )
            # ComfyUI moves the table of noise levels with some ways of loading; where it stays,
            # each step fetches its timestep from main memory, and cannot be recorded.
            sampling = getattr(self.patcher.model, "model_sampling", None)
            if isinstance(sampling, nn.Module):
                sampling.to(self.patcher.load_device)

    def weights_in_place(self) -> Hashable | None:
        """Return what changes when a weight of the model moves; see ``in_place.py``."""
        if self._in_place is None:
            own = (_FREEZE, _TRAIN)
            self._in_place = WeightsInPlace(self.patcher, self.trainee.root, own)
        return self._in_place.now()

    def ensure_loaded(self) -> None:
        """Load again if another model, or a sample from the original MODEL, took the place.

        After samples the weights are where sampling wanted them, with a VAE beside them: loading
        again makes the room that training reserves.
        """
        loaded = comfy.model_management.loaded_models()
        is_loaded = self.patcher.is_injected and any(p is self.patcher for p in loaded)
        if self._has_sampled or not is_loaded:
            self.load()
            self._has_sampled = False

    @contextmanager
    def forward_pass(self) -> Iterator[Any]:
        """Lend the network, loaded, for one training forward pass."""
        self.ensure_loaded()
        device = comfy.model_management.cuda_device_context(self.patcher.load_device)
        with device, in_training():
            if not self._is_running():
                self.patcher.pre_run()
                self._began = True
            yield self.patcher.model

    def _is_running(self) -> bool:
        """Return whether ComfyUI was told that this patcher runs, and no other has run since."""
        current = getattr(self.patcher.model, "current_patcher", self.patcher)
        return self._began and current is self.patcher

    def _end_running(self) -> None:
        """Tell ComfyUI that the patcher rests.

        Not after every pass: it then takes all injections out and puts them in again, which takes
        longer than a small step.
        """
        if self._is_running():
            self.patcher.cleanup()
        self._began = False

    @contextmanager
    def sampling(self) -> Iterator[Any]:
        """Lend the patcher, adapters active, for ComfyUI's samplers.

        They seed torch's global generator; its state is put back afterwards.
        """
        self._end_running()  # a sampler begins and ends by itself
        device = self.patcher.load_device
        devices = [device] if device.type == "cuda" else []
        self._has_sampled = True
        with torch.random.fork_rng(devices=devices), torch.inference_mode(True):
            yield self.patcher

    def _freeze(self, _: Any) -> None:
        """Injection: give every layer a forward that saves no weight for backward."""
        if self._patches:
            return
        for parameter in self.trainee.root.parameters():
            self._patches.freeze(parameter)
        for module in list(self.trainee.root.modules()):
            if kind_of(module) is not None:
                self._patches.replace_forward(module, frozen_linear_map(module))
            elif isinstance(module, _NORMS):
                own_input = self.trainee.adds_in_place and isinstance(module, nn.LayerNorm)
                self._patches.replace_forward(module, frozen_norm(module, own_input=own_input))

    def _insert(self, _: Any) -> None:
        """Injection: let adapters and blocks of the training kind run."""
        modules = list(self.trainee.root.modules())
        for module in modules:
            if isinstance(module, self.trainee.blocks):
                block = training_block(
                    module,
                    adds_in_place=self.trainee.adds_in_place,
                    checkpointing=lambda: self.checkpointing,
                )
                self._patches.replace_forward(module, block)
        for module in modules:
            if kind_of(module) is not None and not self._patches.has_own_forward(module):
                self._patches.replace_forward(module, differentiable(module.forward))
        for name, adapter in self.adapters.items():
            self._adapt(self.trainee.root.get_submodule(self.trainee.paths[name]), adapter)

    def _adapt(self, layer: nn.Module, adapter: nn.Module) -> None:
        """Run ``adapter`` in place of ``layer``, and ``layer`` inside the adapter."""
        base = FrozenLayer(layer, layer.forward, self.patcher.load_device)
        self._patches.replace_child(adapter, "base_layer", base)

        def forward(*args: Any, **kwargs: Any) -> Any:
            return adapter(*args, **kwargs)

        self._patches.replace_forward(layer, forward)

    def _restore(self, _: Any) -> None:
        """Ejection: undo both injections, now that the ones between have let go."""
        self._patches.undo()


def _leave(_: Any) -> None:
    """Eject nothing: the layers are still under other packs' hooks."""


def _check_adapters(adapters: Mapping[str, nn.Module], layers: Mapping[str, str]) -> None:
    unknown = [name for name in adapters if name not in layers]
    if unknown:
        raise ValueError(
            f"adapters for {', '.join(unknown[:3])} ({len(unknown)} in all) fit no layer of this "
            "model: take the names from layers() of the same MODEL"
        )
    parameters = [p for adapter in adapters.values() for p in adapter.parameters()]
    if any(p.is_inference() for p in parameters):
        raise RuntimeError(
            "adapters were made in inference mode, whose tensors cannot be trained: build them "
            "inside `with torch.inference_mode(False)`"
        )


def _move(adapter: nn.Module, device: torch.device) -> torch.device:
    """Move an adapter's own tensors and return where they were; its stand-in base has none.

    ``Module.to`` would refuse the stand-in's meta weights.
    """
    home = device
    for module in adapter.modules():
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            if tensor.device.type != "meta" and tensor.device != device:
                home, gradient = tensor.device, tensor.grad
                tensor.data = tensor.data.to(device)
                tensor.grad = None if gradient is None else gradient.to(device)
    return home
