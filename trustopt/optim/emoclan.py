"""EmoClan: EmoNavi, EmoFact or EmoLynx, whichever fits how fast the loss moves."""

from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor
from torch.optim.optimizer import ParamsT

from .chunks import Slot
from .emo import SHADOW, EmoOptimizer, Step, check_betas
from .emofact import factored_update, split_by_dim
from .emolynx import decay_rate, lion_update
from .emonavi import adam_update
from .loss_signal import Version

NAVI = ("exp_avg_navi", "exp_avg_sq_navi")
FACT_MATRIX = ("exp_avg_r_fact", "exp_avg_c_fact")
FACT_VECTOR = ("exp_avg_fact", "exp_avg_sq_fact")
LYNX = "exp_avg_lynx"
FACT_ABOVE, LYNX_ABOVE = 0.3, 0.6  # muooon/EmoNavi@b1da9a59:AMP-compatible/emoclan.py


class EmoClan(EmoOptimizer):
    """EmoNavi, EmoFact or EmoLynx, by how fast the loss moves (after muooon's EmoClan).

    ``|scalar| <= 0.3`` steps as EmoNavi, up to 0.6 as EmoFact, above as EmoLynx; each keeps its own
    state, frozen while another one steps.

    Args:
        params: Parameters or parameter groups; real, dense, of any shape.
        lr: Step size before the loss signal's factor.
        betas: Decay rates of the running averages, in [0, 1); None takes the version's own,
            (0.9, 0.999).
        eps: Added to denominators.
        weight_decay: Each step multiplies parameters by ``1 - lr * weight_decay``.
        use_shadow: Mix in a slow copy of the parameters while the loss moves fast.
        version: ``"3.0"``, the last there is of it.
        lynx_betas: ``betas`` of the steps as EmoLynx.
        decoupled_weight_decay: Divide weight decay by the lr the group began with, in the steps as
            EmoLynx.
        stochastic_rounding: Round updates of bfloat16 parameters at random, without bias.

    State:
        Float32 throughout, made when first needed: 8 bytes a parameter, up to 12.3 once all three
        have stepped; ``shadow`` if used.

    Raises:
        ValueError: If a hyperparameter is out of range.

    Source:
        muooon/EmoNavi@dc44b09e:AMP-compatible/emoclan.py.
    """

    slots: ClassVar = {
        **{name: Slot("element") for name in (*NAVI, *FACT_VECTOR, LYNX)},
        **dict(zip(FACT_MATRIX, (Slot("row"), Slot("column")), strict=True)),
        **SHADOW,
    }

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        use_shadow: bool = False,
        version: Version = "3.0",
        *,
        lynx_betas: tuple[float, float] = (0.9, 0.99),
        decoupled_weight_decay: bool = False,
        stochastic_rounding: bool = False,
    ) -> None:
        check_betas("lynx_betas", lynx_betas)
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            use_shadow,
            version,
            stochastic_rounding=stochastic_rounding,
            lynx_betas=tuple(lynx_betas),
            decoupled_weight_decay=decoupled_weight_decay,
        )

    def _remembers_by_parameter(self) -> bool:
        return self.use_shadow

    def _step_scalar(self, own_scalar: float) -> float:
        return self.loss_signal.scalar

    def _decay_rate(self, group: dict[str, Any], scalar: float) -> float:
        return decay_rate(group) if abs(scalar) > LYNX_ABOVE else group["weight_decay"]

    def _update(self, group: dict[str, Any], params: list[Tensor], step: Step) -> None:
        size = abs(step.scalar)
        if size > LYNX_ABOVE:
            beta1, beta2 = group["lynx_betas"]
            lion_update(self, params, replace(step, beta1=beta1, beta2=beta2), LYNX)
        elif size > FACT_ABOVE:
            matrices, vectors = split_by_dim(params)
            if matrices:
                factored_update(self, matrices, step, FACT_MATRIX)
            if vectors:
                adam_update(self, vectors, step, FACT_VECTOR)
        else:
            adam_update(self, params, step, NAVI)
