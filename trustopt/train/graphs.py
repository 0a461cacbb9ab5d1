"""CUDA graphs: the thousands of kernels of a forward and backward, recorded once, launched as one.

A step of SDXL launches some nine thousand kernels. A fast GPU is done with them long before Python
has asked for them all, so most of a step at batch 1 it waits. A graph holds the kernels with the
addresses they read and write; before each launch the batch is copied to where the recording found
its own. No kernel and no order changes, so no number does.
"""

import logging
import math
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
REPLAYS_A_MOVE = 4
"""Batches run from recordings for each time that weights moved: fewer are not worth it."""
FURTHEST = 0.05
"""Norm of a recording's gradient minus that of the code, over the latter's, that is allowed.

Some kernels add up in another order at every run: in bfloat16 that is a thousandth.
"""


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
    step runs as it is, too, beside the memory that recordings hold.
    """
    rates, device = run.job.adapter, run.host.device
    if run.job.cuda_graphs == "off" or device.type != "cuda" or torch.version.hip is not None:
        return False
    if max(rates.dropout, rates.rank_dropout, rates.module_dropout) > 0.0:
        return False
    if any(is_text_encoder(name) for name in run.adapters):
        return False
    return memory.available is None or memory.spare >= memory.activations + memory.gradients


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One shape's forward and backward."""

    inputs: Mapping[str, Tensor]
    """Where it reads a batch."""
    losses: Losses
    """Where it writes; the gradients are where the parameters' were when it was made."""
    launch: Callable[[], None]

    def replay(self, inputs: Mapping[str, Tensor]) -> Losses:
        """Run it on a batch; gradients are added to those in place."""
        for name, place in self.inputs.items():
            place.copy_(inputs[name])
        self.launch()
        weighted, losses = self.losses
        return weighted.clone(), losses.clone()  # the next replay writes over its own


class StepGraphs:
    """Runs a batch's forward and backward: the first of a shape as it is, then from a recording.

    Each recording is tried before it is used: one batch from it and as it is must have the same
    gradient. Whatever cannot be recorded (a kernel the CPU must wait for, too little memory) or
    is not the same ends recording for good, is said once, and the batch runs as it is.

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
        self._recordings: dict[Hashable, Recording] = {}
        self._reached: dict[Hashable, list[Tensor]] = {}
        """The parameters that got a gradient when a shape ran as it is."""
        self._gradients: dict[Tensor, Tensor] = {}
        self._place: Hashable | None = None
        self._pool: Any = None
        self._stream: Any = None
        self._moved = 0
        """Times that recordings were lost to weights that moved."""
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
        place = (frozen, tuple([p.data_ptr() for p in self._parameters]))
        if place != self._place:
            self._moved += bool(self._recordings)
            self.forget()
            self._place = place
        return True

    def _run_as_it_is(self, key: Hashable, backward: Backward) -> Losses:
        losses = backward()
        if key not in self._reached:
            self._reached[key] = [p for p in self._parameters if p.grad is not None]
        return losses

    def _try_to_record(self, key: Hashable, backward: Backward) -> Recording | None:
        if REPLAYS_A_MOVE * self._moved > 2 * REPLAYS_A_MOVE + self.replayed:
            self._give_up("the model's weights move too often")
            return None
        self._point_away()  # an earlier batch of this step may have left its gradients there
        try:
            recording = self._record(key, backward)
            apart = self._apart(recording, backward)
        except (RuntimeError, AssertionError) as error:  # what torch raises; Stop is another
            log.debug("recording a step failed", exc_info=True)
            self._mend()
            lines = str(error).splitlines() or [""]
            self._give_up(f"{type(error).__name__}: {lines[0]}")
            return None
        except BaseException:
            self._mend()
            raise
        if not math.isfinite(apart):
            return None  # the batch's own gradient is not finite: another will tell
        if apart > FURTHEST:
            self._give_up(f"a recorded step's gradient was {apart:.1e} off")
            return None
        if not self.recorded:
            self._say("steps are recorded as CUDA graphs and launched as one")
        self.recorded += 1
        self._recordings[key] = recording
        return recording

    def _record(self, key: Hashable, backward: Backward) -> Recording:
        for parameter in self._reached[key]:
            if parameter not in self._gradients:
                self._gradients[parameter] = torch.zeros_like(parameter)
        inputs = {name: tensor.clone() for name, tensor in backward.inputs.items()}
        with self._own_gradients(self._gradients):
            losses, launch = self._captured(lambda: backward.work(inputs))
        return Recording(inputs=inputs, losses=losses, launch=launch)

    def _captured(self, work: Callable[[], Losses]) -> tuple[Losses, Callable[[], None]]:
        """Record work without doing it; return where its result will be, and how to launch it."""
        with torch.cuda.device(self._parameters[0].device):
            graph = torch.cuda.CUDAGraph()
            # One pool: only one recording runs at a time, so all can use the same memory.
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            # torch's own stream for this is on the device that recorded first, whichever it was.
            self._stream = self._stream or torch.cuda.Stream()
            # thread_local: another thread of the application may use the device meanwhile.
            mode = {"stream": self._stream, "capture_error_mode": "thread_local"}
            with torch.cuda.graph(graph, pool=self._pool, **mode):
                losses = work()
        return losses, graph.replay

    @torch.no_grad()
    def _apart(self, recording: Recording, backward: Backward) -> float:
        """Return the norm of a recording's gradient minus the code's over the latter's, once."""
        with self._own_gradients({}), torch.enable_grad():
            backward()
            wanted = {p: p.grad for p in self._gradients if p.grad is not None}
        torch._foreach_zero_(list(self._gradients.values()))
        with self._own_gradients(self._gradients):
            recording.replay(backward.inputs)
        found = self._gradients
        torch._foreach_sub_([found[p] for p in wanted], list(wanted.values()))
        differences, norms = (
            torch.stack(torch._foreach_norm(list(tensors))).norm()
            for tensors in (found.values(), wanted.values())
        )
        return float(differences / norms) if float(differences) > 0.0 else 0.0

    @contextmanager
    def _own_gradients(self, places: Mapping[Tensor, Tensor]) -> Iterator[None]:
        """Let other tensors be the parameters' gradients inside the block."""
        kept = [p.grad for p in self._parameters]
        try:
            for parameter in self._parameters:
                parameter.grad = places.get(parameter)
            yield
        finally:
            for parameter, gradient in zip(self._parameters, kept, strict=True):
                parameter.grad = gradient

    @torch.no_grad()
    def _point_gradients(self, places: Mapping[Tensor, Tensor]) -> None:
        """Let parameters hold their gradients where recordings add to them, values kept."""
        empty = []
        for parameter, place in places.items():
            gradient = parameter.grad  # asked once: a network has more than a thousand
            if gradient is place:
                continue
            if gradient is None:
                empty.append(place)
            else:
                place.copy_(gradient)
            parameter.grad = place
        if empty:
            torch._foreach_zero_(empty)

    def _point_away(self) -> None:
        """Take gradients out of places that are about to go."""
        for parameter, place in self._gradients.items():
            if parameter.grad is place:
                parameter.grad = place.clone()

    def _give_up(self, reason: str) -> None:
        self.is_off = True
        self.forget()
        self._say(f"CUDA graphs are off ({reason}): training goes on without them, slower")

    def _mend(self) -> None:
        """Undo what a recording that failed leaves behind: torch ends only those that succeed.

        Its allocator would go on asking whether each block is for the pool, and its generator
        would refuse to draw outside of a recording.
        """
        device = self._parameters[0].device
        if device.type != "cuda":
            return
        torch.cuda.synchronize(device)
        index = torch.cuda.current_device() if device.index is None else device.index
        if self._pool is not None:
            with suppress(RuntimeError):
                torch._C._cuda_endAllocateToPool(index, self._pool)
        generator = torch.cuda.default_generators[index]
        generator.graphsafe_set_state(generator.clone_state())
