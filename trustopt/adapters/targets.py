"""Which layers of a model carry an adapter: named presets, or a regex over canonical names."""

import difflib
import re
from collections.abc import Mapping

from ..config import AdapterConfig
from ..host import Family, LayerShape

# Patterns match a whole canonical name. "linear" and "conv" below mean the layer's kind.
_SDXL_TRANSFORMER = r"(input_blocks|output_blocks)\.\d+\.1\.\S+|middle_block\.1\.\S+"
_SDXL_BLOCK = r"(input_blocks\.(?!0\.)\d+|output_blocks\.\d+|middle_block)\.\S+"
_SDXL_ATTENTION = r"\S+\.transformer_blocks\.\d+\.attn[12]\.(to_q|to_k|to_v|to_out\.0)"
_SDXL_MLP = r"\S+\.transformer_blocks\.\d+\.ff\.net\.(0\.proj|2)"
_FLUX_BLOCK = r"(double_blocks|single_blocks)\.\d+\.\S+"
_FLUX_ATTENTION = r"double_blocks\.\d+\.(img|txt)_attn\.(qkv|proj)|single_blocks\.\d+\.linear[12]"
_FLUX_MLP = r"double_blocks\.\d+\.(img|txt)_mlp\.[02]"

_PRESETS: dict[Family, dict[str, tuple[str, bool]]] = {
    # preset -> (pattern of names, whether convolutions count)
    "sdxl": {
        "default": (_SDXL_TRANSFORMER, False),
        "attention": (_SDXL_ATTENTION, False),
        "attention+mlp": (f"{_SDXL_ATTENTION}|{_SDXL_MLP}", False),
        "all-linear": (_SDXL_BLOCK, False),
        "all-linear+conv": (_SDXL_BLOCK, True),
        "full": (r"\S+", True),
    },
    "flux": {
        "default": (_FLUX_BLOCK, False),
        # linear1 and linear2 hold attention and MLP in one matrix: both presets take them.
        "attention": (_FLUX_ATTENTION, False),
        "attention+mlp": (f"{_FLUX_ATTENTION}|{_FLUX_MLP}", False),
        "all-linear": (_FLUX_BLOCK, False),
        "all-linear+conv": (_FLUX_BLOCK, True),
        "full": (r"\S+", True),
    },
}

_TEXT_ENCODER_LAYER = re.compile(
    r"te[12]\.text_model\.encoder\.layers\.\d+\."
    r"(self_attn\.(q_proj|k_proj|v_proj|out_proj)|mlp\.fc[12])"
)


def is_text_encoder(name: str) -> bool:
    """Return whether a canonical name is a text encoder's layer (``te1.…``, ``te2.…``)."""
    return re.match(r"te\d\.", name) is not None


def select_layers(
    layers: Mapping[str, LayerShape], config: AdapterConfig, family: Family
) -> dict[str, LayerShape]:
    """Return the layers to train, in the order of ``layers``.

    The sets at full size: SDXL ``default`` 722 (every linear layer of the spatial transformers),
    ``attention`` 560, ``attention+mlp`` 700, ``all-linear`` 739 (and the residual blocks' time
    projections), ``all-linear+conv`` 788 (what LoCon trains; the algorithm ``locon`` turns
    ``default`` into this). FLUX ``default`` 304 with modulation, ``attention`` 152,
    ``attention+mlp`` 228. ``full`` is every layer the host offers. Text encoders add 72 (te1)
    and 192 (te2) for SDXL.

    Args:
        layers: Every layer that may carry an adapter, by canonical name.
        config: ``regex`` (searched anywhere in a name; anchor with ``^`` and ``$``) replaces
            ``targets`` and may name any layer, those of the text encoders included.
        family: Model family whose presets apply.

    Raises:
        ValueError: If nothing matches; the message shows the nearest names. Or if the text
            encoders are asked for and the host offers none.
    """
    if config.regex:
        return _by_regex(layers, config.regex)
    targets = config.targets
    if config.algorithm == "locon" and targets == "default":
        targets = "all-linear+conv"
    pattern, with_convolutions = _PRESETS[family][targets]
    compiled = re.compile(pattern)
    encoder_names = {n for n in layers if _TEXT_ENCODER_LAYER.fullmatch(n)}
    if config.train_text_encoders and not encoder_names:
        raise ValueError(
            "train_text_encoders is on, but this model offers no text encoder layers; "
            "connect CLIP, or turn it off"
        )

    def is_target(name: str, shape: LayerShape) -> bool:
        if is_text_encoder(name):
            return config.train_text_encoders and name in encoder_names
        allowed = with_convolutions or shape.kind == "linear" or _is_projection(name, shape)
        return allowed and compiled.fullmatch(name) is not None

    selected = {name: shape for name, shape in layers.items() if is_target(name, shape)}
    if not any(not is_text_encoder(name) for name in selected):
        raise ValueError(
            f"targets {targets!r} match no layer of this {family} model: "
            f"it offers {', '.join(list(layers)[:3]) or 'none'}; give a regex over such names"
        )
    return selected


def _is_projection(name: str, shape: LayerShape) -> bool:
    # Early latent-diffusion checkpoints hold proj_in and proj_out as 1x1 convolutions.
    return shape.kernel_size == (1, 1) and name.endswith((".proj_in", ".proj_out"))


def _by_regex(layers: Mapping[str, LayerShape], regex: str) -> dict[str, LayerShape]:
    try:
        pattern = re.compile(regex)
    except re.error as error:
        raise ValueError(
            f"regex {regex!r} is not a regular expression: {error}; "
            r"a dot is written \. and a group needs both brackets"
        ) from error
    selected = {name: shape for name, shape in layers.items() if pattern.search(name)}
    if not selected:
        raise ValueError(
            f"regex {regex!r} matches none of the {len(layers)} layers; "
            f"near matches: {', '.join(_near_matches(layers, regex))}"
        )
    return selected


def _near_matches(layers: Mapping[str, LayerShape], regex: str, count: int = 5) -> list[str]:
    """Return the names closest to what the pattern spells, one of each repeated kind."""
    plain = re.sub(r"\\(.)", r"\1", regex).strip("^$").replace(".*", ".")
    kinds: dict[str, str] = {}
    for name in layers:
        kinds.setdefault(re.sub(r"\d+", "0", name), name)
    words = {part for part in re.split(r"[^a-z0-9_]+", plain.lower()) if len(part) > 1}

    def closeness(name: str) -> float:
        shared = sum(
            max(difflib.SequenceMatcher(None, word, part).ratio() for part in name.split("."))
            for word in words
        )
        return shared + difflib.SequenceMatcher(None, plain, name).ratio()

    return sorted(kinds.values(), key=lambda name: (-closeness(name), name))[:count]
