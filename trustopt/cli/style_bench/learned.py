"""The learned judge: does a picture show what was asked for, and how far is it from the truth?

No package carries the weights of a vision model, so a small encoder is trained on real pictures:
every emoji that is drawn both by Google and in the style of the task, faces and things, a tenth
left out. Retrieval on the tenth says what the judge is worth. It may well have seen the held-out
truths of the task: it is a judge, not a contender, and all contenders have the same. What it was
never shown is anything a model has drawn.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from . import encoder as recipe
from .encoder import Encoder, ranks, train_encoder
from .packages import Package, Pixels
from .tasks import THINGS

GROUPS = (*THINGS, "smileys-emotion")
"""What the judge is trained on: all that a task may show."""

UNSEEN = 0.1
"""Share of the emoji that the judge is not trained on but tested with."""

SEED = 0


@dataclass(frozen=True)
class Fidelity:
    """Means over pictures.

    Attributes:
        first: Share whose true picture is the nearest of all held-out truths.
        first_five: Share whose true picture is among the five nearest.
        distance: 1 - cosine of the embeddings of picture and truth, in [0, 2].
    """

    first: float
    first_five: float
    distance: float


@dataclass(frozen=True)
class Competence:
    """What the judge gets right on emoji it has never seen.

    Attributes:
        emoji: How many.
        first: Share of Google's drawings to which the other style's drawing of the same emoji is
            the nearest of all unseen emoji's.
        first_five: Share where it is among the five nearest.
        pixels_first: The same as ``first`` by the pixels' correlation: what learning must beat.
        pixels_five: The same as ``first_five`` by the pixels' correlation.
        style: Share of drawings, a little changed, that are nearer to themselves than to the same
            emoji in the other style.
    """

    emoji: int
    first: float
    first_five: float
    pixels_first: float
    pixels_five: float
    style: float


class LearnedJudge:
    """Judges pictures by an encoder.

    Args:
        encoder: Trained.
        competence: Of the encoder.
    """

    def __init__(self, encoder: Encoder, competence: Competence) -> None:
        self._encoder, self.competence = encoder, competence

    def judge(self, drawn: Sequence[Pixels], truth: Sequence[Pixels]) -> Fidelity:
        """Compare pictures, uint8 ``(64, 64, 3)`` each, the i-th drawn one with the i-th truth.

        Args:
            drawn: By a model.
            truth: All held-out pictures, at least as many: the candidates of the ranking.

        Raises:
            ValueError: If there are fewer truths than drawn pictures, or nothing is drawn.
        """
        if not 0 < len(drawn) <= len(truth):
            raise ValueError(f"{len(drawn)} drawn pictures cannot be judged by {len(truth)} truths")
        queries, keys = self._encoder(as_tensor(drawn)), self._encoder(as_tensor(truth))
        places = ranks(queries, keys)
        cosines = (queries * keys[: len(queries)]).sum(1)
        return Fidelity(share(places == 0), share(places < 5), 1.0 - cosines.mean().item())


def find_judge(noto: Package, styled: Package, folder: Path) -> LearnedJudge:
    """Return the judge of a style, from its file in ``folder`` or trained and written there.

    The file's name holds a hash of all pictures and of the code that trains: another package or
    another version trains anew.

    Raises:
        ValueError: If the packages do not have the same emoji.
    """
    pairs = matched(noto, styled)
    file = folder / f"judge-{key_of(pairs)}.safetensors"
    seen, unseen = split(pairs)
    if file.exists():
        encoder = Encoder(torch.Generator())
        encoder.load_state_dict(load_file(file))
        encoder.requires_grad_(False)
    else:
        encoder = train_encoder(seen, seed=SEED)
        # Another process may do the same: each writes its own, and the last one stays.
        scratch = file.with_suffix(f".{os.getpid()}")
        save_file(encoder.state_dict(), scratch)
        scratch.replace(file)
    return LearnedJudge(encoder, competence_of(encoder, unseen))


def matched(noto: Package, styled: Package) -> Tensor:
    """Return every emoji that both have, ``(N, 2, 3, 64, 64)`` float32 in [0, 1], Google's first.

    Raises:
        ValueError: If they share fewer than 20, too few to leave out any.
    """
    others = {drawing.code: drawing for drawing in styled.drawings}
    both = [(d, others[d.code]) for d in noto.drawings if d.group in GROUPS and d.code in others]
    if len(both) < 20:
        raise ValueError(
            f"--noto: {noto.style} and {styled.style} share {len(both)} emoji, 20 are needed: give "
            "emoji-datasource-google"
        )
    first, second = (as_tensor([pair[side].read() for pair in both]) for side in (0, 1))
    return torch.stack((first, second), dim=1)


def split(pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the pairs to train on, and those left out."""
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(SEED))
    unseen = round(UNSEEN * len(pairs))
    return pairs[order[unseen:]], pairs[order[:unseen]]


def competence_of(encoder: Encoder, unseen: Tensor) -> Competence:
    """Test an encoder on pairs ``(N, 2, 3, 64, 64)`` it was not trained on."""
    first, second = encoder(unseen[:, 0]), encoder(unseen[:, 1])
    places = ranks(first, second)
    pixels = ranks(correlated(unseen[:, 0]), correlated(unseen[:, 1]))
    changed = encoder(recipe.changed(unseen[:, 1], torch.Generator().manual_seed(SEED)))
    own, other = (changed * second).sum(1), (changed * first).sum(1)
    return Competence(
        emoji=len(unseen),
        first=share(places == 0),
        first_five=share(places < 5),
        pixels_first=share(pixels == 0),
        pixels_five=share(pixels < 5),
        style=share(own > other),
    )


def correlated(pictures: Tensor) -> Tensor:
    """Return unit vectors ``(N, 3 H W)`` whose products are the correlations of the pixels."""
    pixels = pictures.flatten(1)
    return torch.nn.functional.normalize(pixels - pixels.mean(1, keepdim=True), dim=1)


def key_of(pairs: Tensor) -> str:
    """Return what tells judges apart: a hash of pictures and recipe."""
    digest = hashlib.blake2b(digest_size=8)
    for source in (recipe.__file__, __file__):
        digest.update(Path(source).read_bytes())
    digest.update((pairs * 255.0).round().to(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def as_tensor(pictures: Sequence[Pixels]) -> Tensor:
    """Return pictures, uint8 ``(H, W, 3)`` each, as ``(N, 3, H, W)`` float32 in [0, 1]."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255.0


def share(hits: Tensor) -> float:
    """Return the share of True."""
    return hits.double().mean().item()


def told(competence: Competence) -> str:
    """Return in a sentence what the judge is worth."""
    numbers = asdict(competence)
    chance = 1.0 / competence.emoji
    return (
        "The judge, on {emoji} emoji it was not trained on: it finds the same emoji in the other "
        "style first in {first:.0%}, among the first five in {first_five:.0%} "
        "(by correlation of pixels {pixels_first:.0%} and {pixels_five:.0%}, by chance "
        "{chance:.0%} and {chance_five:.0%}), and tells the styles apart in {style:.0%}."
    ).format(**numbers, chance=chance, chance_five=5 * chance)
