"""The job's configuration: the only place its defaults, units and ranges are written down."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

Algorithm = Literal["lora", "locon", "loha", "lokr", "dora", "oft", "rslora"]
Timesteps = Literal["auto", "uniform", "sigmoid", "logit-normal", "shifted", "flux-shift"]
Targets = Literal["default", "attention", "attention+mlp", "all-linear", "all-linear+conv", "full"]


def from_mapping(cls: type, values: Mapping[str, Any]) -> Any:
    """Build a config dataclass from plain values.

    Raises:
        ValueError: If a key is unknown; the message lists the known ones.
    """
    known = {f.name for f in fields(cls)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(
            f"{cls.__name__} does not know {', '.join(unknown)}; "
            f"it knows {', '.join(sorted(known))}"
        )
    return cls(**values)


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """Which layers are trained and how.

    Raises:
        ValueError: If a value is out of range.
    """

    algorithm: Algorithm = "lora"
    rank: int = 16
    """Inner dimension, >= 1."""
    alpha: float = 8.0
    """Scale numerator: the change is multiplied by ``alpha / rank``; > 0."""
    targets: Targets = "default"
    """Named set of layers; ``default`` is what other trainers train (SDXL 722, FLUX 304 layers)."""
    regex: str = ""
    """Regular expression over canonical layer names; replaces ``targets`` when not empty."""
    conv_rank: int = 8
    """Rank of 3x3 convolutions where the algorithm and targets include them, >= 1."""
    conv_alpha: float = 4.0
    dropout: float = 0.0
    """Probability of dropping an input of an adapter, in [0, 1)."""
    rank_dropout: float = 0.0
    module_dropout: float = 0.0
    train_text_encoders: bool = False
    """SDXL only: adapters on both text encoders, too."""
    init: Literal["kaiming", "gaussian"] = "kaiming"
    """Distribution of LoRA's first matrix; the second is zero, so training starts unchanged."""
    lokr_factor: int = -1
    """Size of LoKr's first factor; -1 takes the divisors nearest the square root."""
    max_norm: float = 0.0
    """Bound on the Frobenius norm of each layer's change, kept after every step; 0 is off."""
    ranks: Mapping[str, int] = field(default_factory=dict)
    """Regex over layer names -> rank; the first that is found in a name counts."""
    alphas: Mapping[str, float] = field(default_factory=dict)
    lr_scales: Mapping[str, float] = field(default_factory=dict)
    """Regex -> factor on the step size of the layers it is found in."""
    lora_plus_ratio: float = 1.0
    """LoRA+: factor on the step size of the matrices that begin at zero; 1 is off, 16 usual."""

    def __post_init__(self) -> None:
        if self.rank < 1 or self.conv_rank < 1:
            raise ValueError(f"rank must be at least 1, got {min(self.rank, self.conv_rank)}")
        if self.alpha <= 0.0 or self.conv_alpha <= 0.0:
            raise ValueError(
                f"alpha must be above 0, got {min(self.alpha, self.conv_alpha)}: "
                "the change is scaled by alpha / rank, so 0 trains nothing"
            )
        for name in ("dropout", "rank_dropout", "module_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if self.max_norm < 0.0:
            raise ValueError(f"max_norm must be at least 0 (off), got {self.max_norm}")
        if self.lora_plus_ratio <= 0.0:
            raise ValueError(f"lora_plus_ratio must be above 0, got {self.lora_plus_ratio}")
        self._check_overrides()

    def _check_overrides(self) -> None:
        for name, least in (("ranks", 1), ("alphas", None), ("lr_scales", None)):
            for pattern, value in getattr(self, name).items():
                try:
                    re.compile(pattern)
                except re.error as error:
                    raise ValueError(
                        f"{name} has the key {pattern!r}, no regular expression: {error}"
                    ) from error
                if value < least if least is not None else value <= 0.0:
                    bound = f"at least {least}" if least is not None else "above 0"
                    raise ValueError(f"{name}[{pattern!r}] must be {bound}, got {value}")


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Which optimizer, and what the user set on it.

    The options are checked by the optimizer's own entry in ``trustopt/optim/registry.py``.
    """

    name: str = "autotrustgo"
    lr: float | None = None
    """Step size; None takes the plan's, as the optimizer resolves it."""
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.lr is not None and not self.lr > 0.0:
            raise ValueError(f"lr must be above 0, got {self.lr}; leave it blank for the plan's")


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """The loss: how noise levels are drawn and errors weighed.

    Raises:
        ValueError: If a value is out of range.
    """

    loss: Literal["mse", "huber", "smooth_l1", "mae"] = "mse"
    huber_c: float = 0.1
    """Width of the quadratic part of huber and smooth_l1, in units of the target."""
    weighting: Literal["auto", "none", "min-snr", "debiased"] = "auto"
    """``auto``: min-SNR for eps and v models, none for flow and zero-terminal-SNR models."""
    min_snr_gamma: float = 5.0
    timesteps: Literal["auto", "uniform", "sigmoid", "logit-normal", "shifted", "flux-shift"] = (
        "auto"
    )
    """``auto``: uniform for SDXL, flux-shift (sigmoid shifted by resolution) for FLUX."""
    logit_mean: float = 0.0
    logit_std: float = 1.0
    shift: float = 3.0
    """Shift factor s of ``shifted``: ``s u / (1 + (s - 1) u)``."""
    stratified: bool = True
    """Spread the noise levels of a batch (and of consecutive batches) evenly to cut variance."""
    noise_offset: float = 0.0
    pyramid_levels: int = 0
    """Levels of pyramid noise; 0 is off."""
    pyramid_discount: float = 0.3
    input_perturbation: float = 0.0
    guidance: float = 1.0
    """FLUX's guidance embedding during training."""
    masked: bool = True
    """Use masks where the image set has them."""
    unmasked_weight: float = 0.1
    """Weight of pixels outside the mask, in [0, 1]."""

    def __post_init__(self) -> None:
        if self.min_snr_gamma <= 0.0:
            raise ValueError(f"min_snr_gamma must be above 0, got {self.min_snr_gamma}")
        if self.huber_c <= 0.0:
            raise ValueError(f"huber_c must be above 0, got {self.huber_c}")
        if not 0.0 <= self.unmasked_weight <= 1.0:
            raise ValueError(f"unmasked_weight must be in [0, 1], got {self.unmasked_weight}")
        if self.shift <= 0.0:
            raise ValueError(f"shift must be above 0, got {self.shift}")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How pictures and captions become batches.

    Raises:
        ValueError: If a value is out of range.
    """

    resolution: int = 1024
    """Side of the square whose area every bucket keeps, pixels."""
    extra_resolutions: tuple[int, ...] = ()
    """More such sides; a picture's resolutions take turns, so an epoch grows no longer."""
    bucket_step: int = 64
    """Bucket sides are multiples of this; lowered to fit small resolutions."""
    upscale: bool = True
    """Enlarge pictures smaller than their bucket; False gives them a smaller bucket."""
    flip: bool = False
    """Also train mirrored pictures."""
    random_crop: bool = False
    """Crop at five places from end to end, taking turns, instead of in the middle."""
    shuffle_tags: bool = False
    keep_tokens: int = 1
    """Comma-separated tags at the front that are neither shuffled nor dropped."""
    caption_dropout: float = 0.0
    """Share of the captions replaced by the empty one, drawn anew for each batch."""
    tag_dropout: float = 0.0
    """Share of the tags left out of a caption's variants."""
    caption_variants: int = 8
    """Pre-encoded variants a caption when tags are shuffled or dropped."""
    validation_fraction: float = 0.0
    """Share of the images kept out of training for the validation loss."""
    regularisation_weight: float = 1.0
    """Loss weight of regularisation pictures; 1 counts them like the others."""
    class_word: str = ""
    """What the trigger word is one of ("woman"): every second batch then shows the pictures under
    this word, and keeps what the base model makes of it; empty is off."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "extra_resolutions", tuple(self.extra_resolutions))  # from JSON
        for side in (self.resolution, *self.extra_resolutions):
            if side < 16:
                raise ValueError(f"resolution must be at least 16 pixels, got {side}")
        for name, least in (("bucket_step", 8), ("keep_tokens", 0), ("caption_variants", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.regularisation_weight < 0.0:
            raise ValueError(
                f"regularisation_weight must be 0 or more, got {self.regularisation_weight}"
            )
        for name in ("caption_dropout", "tag_dropout", "validation_fraction"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class JobConfig:
    """One training run, complete: the same job and seed give the same LoRA, bit for bit on a CPU.

    Raises:
        ValueError: If a value is out of range.
    """

    name: str
    """Stem of the LoRA file and of the run folder; letters, digits and ``-_. `` only."""
    seed: int = 0
    steps: int = 2000
    """Optimizer steps."""
    lr: float = 1e-4
    scheduler: Literal["constant", "linear", "cosine", "cosine_with_restarts"] = "constant"
    warmup_steps: int = 0
    batch_size: int = 1
    """Pictures a forward pass."""
    accumulation: int = 1
    """Forward passes an optimizer step."""
    repeats: int = 1
    """Times each picture is seen an epoch, on top of the folder's own repeats."""
    max_grad_norm: float = 1.0
    """L2 bound on the whole gradient; 0 does not clip."""
    checkpointing: Literal["auto", "on", "off"] = "auto"
    cuda_graphs: Literal["auto", "off"] = "auto"
    """Record a step's kernels and launch them as one, where that can be done; the numbers are the
    same, small batches are faster."""
    save_dtype: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Precision of the LoRA file; ``auto``: fp32 for a model that runs in fp32, else fp16."""
    save_every: int = 250
    """Steps between saved states; 0 saves at the end and on Stop only."""
    keep_last: int = 2
    """Saved states kept on disk."""
    max_bad_steps: int = 10
    """Non-finite losses or gradients in a row before training stops."""
    sample_every: int = 0
    """Steps between sample pictures; 0 makes them before step 1 and at the end only."""
    validate_every: int = 100
    """Steps between validation losses, where pictures are held out; 0 is never."""
    ema_decay: float = 0.0
    """Decay of the weights' moving average, which is then what is saved; 0 is off."""
    data: DataConfig = field(default_factory=DataConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        check_name(self.name)
        for name, least in (
            ("steps", 1),
            ("batch_size", 1),
            ("accumulation", 1),
            ("repeats", 1),
            ("keep_last", 1),
            ("save_every", 0),
            ("warmup_steps", 0),
            ("max_bad_steps", 1),
            ("sample_every", 0),
            ("validate_every", 0),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not self.lr > 0.0:
            raise ValueError(f"lr must be above 0, got {self.lr}")
        if not 0.0 <= self.ema_decay < 1.0:
            raise ValueError(f"ema_decay must be in [0, 1), got {self.ema_decay}")
        if self.checkpointing not in ("auto", "on", "off"):
            raise ValueError(f"checkpointing must be auto, on or off, got {self.checkpointing!r}")
        if self.cuda_graphs not in ("auto", "off"):
            raise ValueError(f"cuda_graphs must be auto or off, got {self.cuda_graphs!r}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that ``from_dict`` and JSON take."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "JobConfig":
        """Build a job from plain values.

        Raises:
            ValueError: If a key is unknown or a value out of range.
        """
        parts = {
            "data": DataConfig,
            "objective": ObjectiveConfig,
            "adapter": AdapterConfig,
            "optimizer": OptimizerConfig,
        }
        plain = {
            key: from_mapping(parts[key], value) if key in parts else value
            for key, value in values.items()
        }
        return from_mapping(cls, plain)


def check_name(name: str) -> str:
    """Return ``name`` if it may name a file.

    Raises:
        ValueError: If it is empty, hidden, or would leave its folder.
    """
    allowed = set("-_. ")
    if not name or name != name.strip(" .") or any(not (c.isalnum() or c in allowed) for c in name):
        raise ValueError(
            f"name {name!r} cannot name a file: use letters, digits, spaces and - _ . only, "
            "no path separators, and no dot or space at either end"
        )
    return name
