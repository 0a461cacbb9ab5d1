"""CUDA graphs: the thousands of kernels of a forward and backward, recorded once, launched as one.

A step of SDXL launches some nine thousand kernels. A fast GPU is done with them long before Python
has asked for them all, so most of a step at batch 1 it waits. A graph holds the kernels with the
addresses they read and write; before each launch the batch is copied to where the recording found
its own. No kernel and no order changes, so no number does.
"""

import logging
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..adapters import is_text_encoder
from .backward import Backward, Losses
from .preflight import MemoryPlan

if TYPE_CHECKING:
    from .loop import Run

log = logging.getLogger("trustopt")

MAX_GRAPHS = 16
"""Shapes that are recorded; each graph takes some MiB of the device for its list of kernels."""
SPARE_RECORDINGS = 8
"""Recordings that may be in vain, because weights moved, before no more are made."""


@contextmanager
def recorded_steps(run: "Run", memory: MemoryPlan, say: Callable[[str], None]) -> Iterator[None]:
    """Let a run record its steps inside the block, which a session of its host surrounds."""
    if can_record(run, memory):
        run.graphs = StepGraphs(run.parameters, run.host.weights_in_place, say)
    try:
        yield
    finally:
        if run.graphs is not None:
            run.graphs.forget()
            run.graphs = None


def can_record(run: "Run", memory: MemoryPlan) -> bool:
    """Return whether the same kernels run at every step of a shape, and there is room for more.

    Dropout draws its masks in Python, and text encoders that learn read other tokens each time. A
    shape's first step runs as it is, beside the memory that recordings of other shapes hold.
    """
    rates, device = run.job.adapter, run.host.device
    if run.job.cuda_graphs == "off" or device.type != "cuda" or torch.version.hip is not None:
        return False
    if max(rates.dropout, rates.rank_dropout, rates.module_dropout) > 0.0:
        return False
    if any(is_text_encoder(name) for name in run.adapters):
        return False
    return memory.available is None or memory.spare >= memory.activations


@dataclass(frozen=True, kw_only=True)
class _Recording:
    graph: Any
    inputs: Mapping[str, Tensor]
    losses: Losses

    def replay(self, inputs: Mapping[str, Tensor]) -> Losses:
        for name, place in self.inputs.items():
            place.copy_(inputs[name])
        self.graph.replay()
        weighted, losses = self.losses
        return weighted.clone(), losses.clone()  # the next replay writes over its own


class StepGraphs:
    """Runs a batch's forward and backward: the first of a shape as it is, then from a recording.

    Whatever cannot be recorded (a kernel the CPU must wait for, too little memory) ends recording
    for good, is said once, and the batch runs as it is.

    Args:
        parameters: What is trained: the gradients stay where the recordings put them.
        weights_in_place: ``Host.weights_in_place``: other weights, other recordings.
        say: Takes text that the user should see.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        weights_in_place: Callable[[], Hashable | None],
        say: Callable[[str], None],
    ) -> None:
        self._parameters = list(parameters)
        self._weights_in_place = weights_in_place
        self._say = say
        self._recordings: dict[Hashable, _Recording] = {}
        self._reached: dict[Hashable, list[Tensor]] = {}
        """The parameters that got a gradient when a shape ran as it is."""
        self._gradients: dict[Tensor, Tensor] = {}
        self._place: Hashable | None = None
        self._pool: Any = None
        self.recorded = 0
        """Recordings made so far."""
        self.replayed = 0
        """Batches run from a recording so far."""
        self.is_off = False

    def __call__(self, backward: Backward) -> Losses:
        """Run one batch; its gradients are added to the parameters'."""
        if self.is_off or not self._weights_stay():
            return backward()
        shapes = tuple((name, x.shape, x.dtype) for name, x in backward.inputs.items())
        key = (shapes, backward.others)
        recording = self._recordings.get(key)
        if recording is None and key in self._reached and len(self._recordings) < MAX_GRAPHS:
            recording = self._try_to_record(key, backward)
        if recording is None:
            return self._run_as_it_is(key, backward)
        self._point_gradients(self._gradients)
        self.replayed += 1
        return recording.replay(backward.inputs)

    def forget(self) -> None:
        """Give the recordings' memory back: before samples, and whenever weights have moved."""
        self._point_away()
        self._recordings.clear()
        self._gradients.clear()
        self._place = self._pool = None

    def _weights_stay(self) -> bool:
        """Return whether recordings can be used, and drop those that weights have left."""
        frozen = self._weights_in_place()
        if frozen is None:
            self.forget()
            return False
        place = (frozen, tuple(p.data_ptr() for p in self._parameters))
        if place != self._place:
            self.forget()
            self._place = place
        return True

    def _run_as_it_is(self, key: Hashable, backward: Backward) -> Losses:
        losses = backward()
        if key not in self._reached:
            self._reached[key] = [p for p in self._parameters if p.grad is not None]
        return losses

    def _try_to_record(self, key: Hashable, backward: Backward) -> _Recording | None:
        if self.recorded > SPARE_RECORDINGS + self.replayed:
            self._give_up("the model's weights move too often")
            return None
        try:
            recording = self._record(key, backward)
        except Exception as error:
            log.debug("recording a step failed", exc_info=True)
            _mend(self._parameters[0].device, self._pool)
            lines = str(error).splitlines() or [""]
            self._give_up(f"{type(error).__name__}: {lines[0]}")
            return None
        if not self.recorded:
            self._say("steps are recorded as CUDA graphs and launched as one")
        self.recorded += 1
        self._recordings[key] = recording
        return recording

    def _record(self, key: Hashable, backward: Backward) -> _Recording:
        for parameter in self._reached[key]:
            if parameter not in self._gradients:
                self._gradients[parameter] = torch.zeros_like(parameter)
        inputs = {name: tensor.clone() for name, tensor in backward.inputs.items()}
        kept = [p.grad for p in self._parameters]
        try:
            for parameter in self._parameters:
                parameter.grad = self._gradients.get(parameter)
            graph = torch.cuda.CUDAGraph()
            # One pool: only one recording runs at a time, so all can use the same memory.
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            # thread_local: another thread of the application may use the device meanwhile.
            capture = torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local")
            with torch.cuda.device(self._parameters[0].device), capture:
                losses = backward.work(inputs)
        finally:
            for parameter, gradient in zip(self._parameters, kept, strict=True):
                parameter.grad = gradient
        return _Recording(graph=graph, inputs=inputs, losses=losses)

    @torch.no_grad()
    def _point_gradients(self, places: Mapping[Tensor, Tensor]) -> None:
        """Let parameters hold their gradients where recordings add to them, values kept."""
        empty = [place for p, place in places.items() if p.grad is None]
        if empty:
            torch._foreach_zero_(empty)
        for parameter, place in places.items():
            if parameter.grad is not None and parameter.grad is not place:
                place.copy_(parameter.grad)
            parameter.grad = place

    def _point_away(self) -> None:
        """Take gradients out of places that are about to go."""
        for parameter, place in self._gradients.items():
            if parameter.grad is place:
                parameter.grad = place.clone()

    def _give_up(self, reason: str) -> None:
        self.is_off = True
        self.forget()
        self._say(f"CUDA graphs are off ({reason}): training goes on without them, slower")


def _mend(device: torch.device, pool: Any) -> None:
    """Undo what a recording that failed leaves behind: torch ends only those that succeed.

    Its allocator would go on asking whether each block is for the pool, and its generator would
    refuse to draw outside of a recording.
    """
    torch.cuda.synchronize(device)
    index = torch.cuda.current_device() if device.index is None else device.index
    with suppress(RuntimeError):
        torch._C._cuda_endAllocateToPool(index, pool)
    generator = torch.cuda.default_generators[index]
    generator.graphsafe_set_state(generator.clone_state())
