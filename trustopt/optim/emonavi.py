"""EmoNavi: Adam without bias correction, driven by the loss."""

import torch
from torch import Tensor

from .chunks import Slot
from .emo import SHADOW, EmoOptimizer, Step
from .loss_signal import LossSignal

SLOTS = {"exp_avg": Slot("element"), "exp_avg_sq": Slot("element")}
NEVER_FIRST = 1e9  # a step count at which Adam's bias correction is 1 in any precision


class EmoNavi(EmoOptimizer):
    slots = SLOTS | SHADOW
    default_betas = {"3.0": (0.9, 0.999), "3.6": (0.9, 0.995)}

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.version == "3.6":
            self.loss_signal = LossSignal("3.6", early_stop_scalar=True)

    def _update(self, group: dict, params: list[Tensor], step: Step) -> None:
        adam_update(self, params, step)


def adam_update(
    optimizer: EmoOptimizer,
    params: list[Tensor],
    step: Step,
    names: tuple[str, str] = ("exp_avg", "exp_avg_sq"),
) -> None:
    """Adam without bias correction; ``names`` are the two averages' in the state.

    One pass of torch's fused AdamW where it exists and the state is the parameters' own dtype;
    in chunks with float32 state otherwise.
    """
    if all(_can_fuse(p) for p in params):
        _adam_fused(optimizer, params, step, names)
    else:
        _adam_chunked(optimizer, params, step, names)


def _can_fuse(p: Tensor) -> bool:
    return (
        p.dtype in (torch.float32, torch.float64)
        and p.device.type in ("cpu", "cuda")
        and p.is_contiguous()
        and p.grad is not None
        and p.grad.is_contiguous()
    )


def _adam_fused(
    optimizer: EmoOptimizer, params: list[Tensor], step: Step, names: tuple[str, str]
) -> None:
    first, second = names
    by_kind: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for p in params:
        state = optimizer.state[p]
        if first not in state:
            state[first], state[second] = torch.zeros_like(p), torch.zeros_like(p)
        by_kind.setdefault((p.device, p.dtype), []).append(p)
    # The kernel decays by 1 - lr * weight_decay: divide the drive out of the decay again.
    weight_decay = (1.0 - step.decay) / step.size if step.size else 0.0
    for (device, _), kin in by_kind.items():
        count = torch.tensor(NEVER_FIRST, device=device)
        torch._fused_adamw_(
            kin,
            [p.grad for p in kin],
            [optimizer.state[p][first] for p in kin],
            [optimizer.state[p][second] for p in kin],
            [],
            [count] * len(kin),
            lr=step.size,
            beta1=step.beta1,
            beta2=step.beta2,
            weight_decay=weight_decay,
            eps=step.eps,
            amsgrad=False,
            maximize=False,
        )
        if not step.size and step.decay != 1.0:
            torch._foreach_mul_(kin, step.decay)


def _adam_chunked(
    optimizer: EmoOptimizer, params: list[Tensor], step: Step, names: tuple[str, str]
) -> None:
    first, second = names
    scratch = optimizer._scratch
    slots = {name: Slot("element") for name in names}
    for chunk in optimizer._chunks(params, slots):
        grad = chunk.gather(scratch)
        exp_avg, exp_avg_sq = chunk[first], chunk[second]
        exp_avg.lerp_(grad, 1.0 - step.beta1)
        exp_avg_sq.mul_(step.beta2).addcmul_(grad, grad, value=1.0 - step.beta2)
        denominator = torch.sqrt(exp_avg_sq, out=scratch.take("denominator", chunk)).add_(step.eps)
        torch.div(exp_avg, denominator, out=grad)
        chunk.subtract(scratch, step=step.size, decay=step.decay)
