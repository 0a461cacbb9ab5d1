r"""A small network that sees which emoji a picture shows, and in which style.

It maps a picture to a point on a sphere. Trained on pairs, the same emoji in two styles: changed at
random, a picture is to be near itself (``OWN`` of the probability) and near the other style's
drawing (the rest), and far from all other emoji of both styles:

.. math:: \ell_i = -\sum_j p_{ij} \log \mathrm{softmax}_j(\langle q_i, k_j \rangle / \tau)

over all 2 B drawings of a batch of B pairs: InfoNCE with two positives.

Source:
    van den Oord et al. 2018, arXiv:1807.03748 (InfoNCE); Khosla et al. 2020, arXiv:2004.11362
    (more than one positive).
"""

import torch
from torch import Tensor, nn

CHANNELS = 32
"""Of the first layer; each later one has twice as many."""
DIMENSIONS = 128
"""Of the sphere's space."""
TEMPERATURE = 0.07
OWN = 2 / 3
"""Less would leave styles alike, more would leave them as far apart as other emoji."""

STEPS = 400
BATCH = 128
"""Pairs a step: with them a training takes about a minute on one core."""
LR = 2e-3
WARMUP = 0.1
"""Share of the steps."""
WEIGHT_DECAY = 0.05


class Encoder(nn.Module):
    """Pictures ``(B, 3, 64, 64)`` float32 in [0, 1] -> unit vectors ``(B, DIMENSIONS)``.

    Args:
        generator: Draws the first weights.
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        width = CHANNELS
        self.layers = nn.Sequential(
            *_layer(3, width, kernel=7, stride=4),
            *_layer(width, 2 * width, kernel=3, stride=2),
            *_layer(2 * width, 4 * width, kernel=3, stride=2),
            # Not averaged over places: emoji differ in where eyes and mouths are.
            nn.Flatten(),
            nn.Linear(4 * width * 4 * 4, DIMENSIONS),
        )
        for layer in self.layers:
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(layer.weight, generator=generator)
                nn.init.zeros_(layer.bias)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return unit vectors ``(B, DIMENSIONS)``."""
        return nn.functional.normalize(self.layers(pictures * 2.0 - 1.0), dim=1)


def _layer(inputs: int, outputs: int, *, kernel: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2)
    return [convolution, nn.GroupNorm(8, outputs), nn.GELU()]


def train_encoder(pairs: Tensor, *, seed: int, steps: int = STEPS, batch: int = BATCH) -> Encoder:
    """Train an encoder; the same pairs and seed give the same one.

    Args:
        pairs: ``(N, 2, 3, 64, 64)`` float32 in [0, 1]: N emoji, each in two styles.
        seed: Of the weights, the order and all changes of pictures.
        steps: Of the training.
        batch: Pairs a step; of fewer pairs all are taken.
    """
    generator = torch.Generator().manual_seed(seed)
    encoder = Encoder(generator)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LR, total_steps=steps, pct_start=WARMUP
    )
    for _ in range(steps):
        chosen = torch.randperm(len(pairs), generator=generator)[:batch]
        loss = contrastive_loss(encoder, pairs[chosen], generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return encoder.requires_grad_(False)


def contrastive_loss(encoder: Encoder, pairs: Tensor, generator: torch.Generator) -> Tensor:
    """Return the module's loss, averaged over the batch.

    Args:
        encoder: To train.
        pairs: ``(B, 2, 3, 64, 64)`` float32 in [0, 1].
        generator: Draws which style is the query, and all changes.
    """
    count = len(pairs)
    rows = torch.arange(count)
    style = torch.randint(2, (count,), generator=generator)
    # Keys in one order: all of the first style, then all of the second.
    drawings = torch.cat((pairs[rows, style], pairs[:, 0], pairs[:, 1]))
    queries, keys = encoder(changed(drawings, generator)).split((count, 2 * count))
    wanted = torch.zeros(count, 2 * count)
    wanted[rows, rows + style * count] = OWN
    wanted[rows, rows + (1 - style) * count] = 1.0 - OWN
    return nn.functional.cross_entropy(queries @ keys.T / TEMPERATURE, wanted)


def changed(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Return each picture moved, scaled and recoloured a little, in its own way.

    Moved by up to 5 % of the side, scaled by 0.87 to 1.11, each colour's ink by 0.8 to 1.2: what a
    drawing of the same thing may differ in.
    """
    count = len(pictures)
    zoom = 0.9 + 0.25 * torch.rand(count, generator=generator)
    matrix = torch.zeros(count, 2, 3)
    matrix[:, 0, 0] = matrix[:, 1, 1] = zoom
    # In affine_grid's coordinates a side is 2 long.
    matrix[:, :, 2] = 0.2 * torch.rand(count, 2, generator=generator) - 0.1
    grid = nn.functional.affine_grid(matrix, list(pictures.shape), align_corners=False)
    # What comes in from outside is 0: no ink, white.
    ink = nn.functional.grid_sample(1.0 - pictures, grid, align_corners=False)
    gain = 0.8 + 0.4 * torch.rand(count, 3, 1, 1, generator=generator)
    return 1.0 - (ink * gain).clamp(0.0, 1.0)


def ranks(queries: Tensor, keys: Tensor) -> Tensor:
    """Return for each query how many keys are nearer to it than its own, ``(N,)``.

    Args:
        queries: Unit vectors ``(N, D)``.
        keys: Unit vectors ``(M, D)``, M >= N; the i-th belongs to query i.
    """
    # The own similarity is taken from the same product: computed apart it may differ by rounding,
    # and a key would be nearer than itself.
    similarities = queries @ keys.T
    return (similarities > similarities.diagonal()[:, None]).sum(1)
