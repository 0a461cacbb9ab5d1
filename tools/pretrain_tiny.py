"""Pretrains the tiny SDXL on the Noto emoji, on one core of a CPU in about half an hour.

::

    npm pack emoji-datasource-google && tar xzf emoji-datasource-google-*.tgz
    PYTHONPATH=. python tools/pretrain_tiny.py vae package scratch --minutes 15
    PYTHONPATH=. python tools/pretrain_tiny.py unet package scratch --minutes 20
    PYTHONPATH=. python tools/pretrain_tiny.py decoder package scratch --minutes 5
    cp scratch/tiny.safetensors trustopt/hosts/tiny/sdxl.safetensors
"""

import argparse
from pathlib import Path

import torch
from pretrain.autoencoder import load_autoencoder, train_autoencoder
from pretrain.checkpoint import replace_part
from pretrain.denoiser import train_denoiser
from pretrain.pictures import read_emoji


def main() -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=("vae", "unet", "decoder"))
    parser.add_argument("package", type=Path, help="the unpacked npm package")
    parser.add_argument("scratch", type=Path, help="a folder for checkpoints and samples")
    parser.add_argument("--minutes", type=float, default=20.0, help="of processor time")
    parser.add_argument("--used", type=float, default=0.0, help="of it by a run to go on from")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.scratch.mkdir(parents=True, exist_ok=True)
    emoji = read_emoji(given.package)
    if given.stage == "vae":
        train_autoencoder(emoji, given.minutes, given.scratch)
    elif given.stage == "decoder":
        train_autoencoder(emoji, given.minutes, given.scratch, decoder_only=True)
        vae = load_autoencoder(given.scratch)
        replace_part("vae", vae, given.scratch / "tiny.safetensors")
    else:
        train_denoiser(emoji, given.minutes, given.used, given.scratch)


if __name__ == "__main__":
    main()
