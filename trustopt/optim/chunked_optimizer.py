"""What all optimizers of this package share: the step's frame, lazy state, and an exact resume."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

from .chunks import Chunk, Scratch, Slot, build_chunks

OWN_SECTION = "trustopt"  # key of everything in a state_dict that belongs to no parameter


class ChunkedOptimizer(Optimizer):
    """An optimizer whose update rule runs on chunks of parameters.

    A subclass declares its ``slots`` and overrides :meth:`_update_group`; :meth:`_begin_step` and
    :meth:`_end_step` frame it. Parameters without a gradient are skipped entirely: no state, no
    part in any statistic.

    Args:
        params: Parameters or parameter groups; real, dense, of any shape.
        defaults: Hyperparameters a group may override.
        stochastic_rounding: Round the updates of bfloat16 parameters at random, without bias.

    Raises:
        ValueError: If a parameter is complex; on the first step, if a gradient is sparse.
    """

    slots: Mapping[str, Slot] = {}

    def __init__(
        self, params: ParamsT, defaults: dict[str, Any], *, stochastic_rounding: bool = False
    ) -> None:
        self.scratch = Scratch(stochastic_seed=0 if stochastic_rounding else None)
        self._layouts: dict[tuple[int, ...], list[Chunk]] = {}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(
        self,
        closure: Callable[[], Any] | None = None,
        *,
        loss: Tensor | float | None = None,
    ) -> Any:
        """Update every parameter that has a gradient.

        Args:
            closure: Re-evaluates the model with gradients on and returns the loss.
            loss: Mean loss of the whole step, all micro-batches included; instead of a closure.

        Returns:
            The closure's value, or ``loss``.

        Raises:
            ValueError: If a gradient is sparse.
        """
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        present = [(group, self._present(group)) for group in self.param_groups]
        self._begin_step(loss, [p for _, params in present for p in params])
        for group, params in present:
            if params:
                self._update_group(group, params)
        self._end_step()
        return loss

    def signals(self) -> dict[str, Tensor]:
        """Return this step's scalars for the recorder: 0-dim, still on the device."""
        return {}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, as in torch; complex parameters are refused."""
        super().add_param_group(param_group)
        for p in self.param_groups[-1]["params"]:
            if p.is_complex():
                raise ValueError(
                    f"{type(self).__name__} takes real parameters, got {p.dtype}; "
                    "train torch.view_as_real(parameter) instead"
                )

    # -- resume --------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return torch's state_dict plus one section ``trustopt``; plain tensors and numbers."""
        state = super().state_dict()
        state[OWN_SECTION] = self._own_state()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`, or from the published class's state where one exists.

        Every tensor keeps its own precision: torch would cast it to its parameter's.

        Raises:
            ValueError: If the groups differ in number or size, or the state is of another rule.
        """
        own = state_dict.get(OWN_SECTION, {})
        self._check_own_state(own)
        groups = state_dict["param_groups"]
        before = self.param_groups
        super().load_state_dict({"state": {}, "param_groups": groups})
        for old, new in zip(before, self.param_groups, strict=True):
            # A published state lacks what its class had no group value for.
            for name, value in old.items():
                new.setdefault(name, value)
        saved_ids = [i for group in groups for i in group["params"]]
        saved = {
            p: state_dict["state"][i]
            for i, p in zip(saved_ids, self._all_params(), strict=True)
            if i in state_dict["state"]
        }
        for p, values in saved.items():
            self.state[p] = {
                name: value.detach().clone().to(p.device)
                for name, value in values.items()
                if name in self.slots
            }
        self._layouts.clear()
        self.scratch.clear()
        self._load_own_state(own, saved)

    def __getstate__(self) -> dict[str, Any]:
        """Copy and pickle without the buffers, which are rebuilt from ``state``."""
        hidden = {"_layouts", "scratch"}
        state = {name: value for name, value in self.__dict__.items() if name not in hidden}
        return {**state, "_rounding": (self.scratch.stochastic_seed, self._generator_states())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        if "_rounding" in state:  # absent when torch's load_state_dict calls this
            seed, generators = state.pop("_rounding")
            self.scratch = Scratch(seed)
            self._set_generators(generators)
        self._layouts = {}
        super().__setstate__(state)

    def _own_state(self) -> dict[str, Any]:
        """What belongs to no parameter, as tensors, numbers and lists of them."""
        return {"generators": self._generator_states()}

    def _check_own_state(self, own: Mapping[str, Any]) -> None:
        """Raise ValueError if the state cannot be this optimizer's; before anything changes."""

    def _load_own_state(self, own: Mapping[str, Any], saved: Mapping[Tensor, Any]) -> None:
        """Restore :meth:`_own_state`; ``saved`` is each parameter's entry as it came."""
        self._set_generators(own.get("generators", {}))

    def _generator_states(self) -> dict[str, Tensor]:
        return {key: g.get_state() for key, g in self.scratch.generators.items()}

    def _set_generators(self, states: Mapping[str, Tensor]) -> None:
        for key, state in states.items():
            self.scratch.generator_on(torch.device(key)).set_state(state)

    # -- for subclasses ------------------------------------------------------------------------

    def _begin_step(self, loss: Any, present: list[Tensor]) -> None:
        """Before any group is updated."""

    def _update_group(self, group: dict[str, Any], params: list[Tensor]) -> None:
        """Update the parameters of one group that have a gradient."""
        raise TypeError(f"{type(self).__name__} has no update rule")

    def _end_step(self) -> None:
        """After all groups are updated."""

    def chunks(self, params: list[Tensor], slots: Mapping[str, Slot]) -> list[Chunk]:
        """Return ``params`` cut into chunks with their state bound; cached while neither moves."""
        key = tuple(map(id, params))
        chunks = self._layouts.get(key)
        if chunks is None or not all(chunk.is_bound(self.state) for chunk in chunks):
            # A parameter's state lives in one layout: any other that shares it is stale now.
            members = set(map(id, params))
            self._layouts = {k: v for k, v in self._layouts.items() if members.isdisjoint(k)}
            self.scratch.clear()
            chunks = build_chunks(params)
            self._layouts[key] = chunks
        for chunk in chunks:
            chunk.bind(self.state, slots)
        return chunks

    def _present(self, group: dict[str, Any]) -> list[Tensor]:
        """The group's parameters that have a gradient and at least one element."""
        present = []
        for p in group["params"]:
            grad = p.grad  # read once: a LoRA has over a thousand of them
            if grad is None or not p.numel():
                continue
            if grad.is_sparse:
                raise ValueError(
                    f"{type(self).__name__} takes dense gradients, got a sparse one of shape "
                    f"{tuple(grad.shape)}; build the embedding with sparse=False"
                )
            present.append(p)
        return present

    def _all_params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]
