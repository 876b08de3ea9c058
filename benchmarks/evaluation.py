"""Dense and multi-crop evaluation of a folder of photos, against the straightforward loop over images and crops.

python benchmarks/evaluation.py FOLDER     photos of ImageNet's sizes, in one folder

The loop takes an image at a time, its mirror image after it, 50 crops of it as one batch; NCHW in memory. Both decode
in the same process that computes. Net D at a quarter of the width, 224 crops, Q = 256.
"""

import argparse
import time
from functools import partial
from pathlib import Path

import torch
from measure import configured, machine, report, take_turns
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms.functional import pil_to_tensor, resize

from vgg.data.listing import Listing
from vgg.evaluation.scoring import Scoring, WholeImages, batches, collate, sizes
from vgg.evaluation.views import windows
from vgg.launch.processes import quiet
from vgg.launch.trainer import lightning_trainer
from vgg.nets import initialisation
from vgg.nets.vgg import VGG

Q, BATCH = 256, 16


def made_net() -> VGG:
    net = VGG("D", width=0.25).eval()
    initialisation.draw(net, "glorot", 1)
    return net


def loop(images: Listing, net: VGG, view: str) -> float:
    """Images/s."""
    started = time.perf_counter()
    for file in images.files:
        photo = resize(Image.open(images.root / file).convert("RGB"), Q)
        image = pil_to_tensor(photo)[None].float()
        both = (image, image.flip(3))
        if view == "dense":
            parts = both
        else:
            corners = windows(*image.shape[2:], net.crop, view)
            crops = [one[:, :, y : y + net.crop, x : x + net.crop] for one in both for y, x in corners]
            parts = (torch.cat(crops),)
        posterior: Tensor = torch.cat([net(part).softmax(1) for part in parts]).mean(0)
        assert posterior.isfinite().all()
    return len(images) / (time.perf_counter() - started)


def ours(images: Listing, net: VGG, view: str) -> float:
    """Images/s, with Lightning's trainer and everything else that scoring does after its process has started."""
    trainer = lightning_trainer(configured("trainer=cpu").trainer, logger=False)
    started = time.perf_counter()
    order = batches(sizes(images), Q, BATCH)
    loader = DataLoader(WholeImages(images, Q), batch_sampler=order, collate_fn=collate)
    scoring = Scoring(net, images, view, "last", mirror=True)
    trainer.test(scoring, loader, verbose=False)
    assert scoring.covered.all()
    return len(images) / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_args()
    paths = sorted(given.folder.iterdir())
    files, bytes_ = tuple(path.name for path in paths), tuple(path.stat().st_size for path in paths)
    images = Listing(given.folder, ("any",), files, bytes_, (0,) * len(files))
    quiet()
    print(f"{len(images)} photos; {machine()}")
    with torch.inference_mode():
        for view in ("dense", "multicrop"):
            some = images if view == "dense" else Listing(images.root, ("any",), files[:16], bytes_[:16], (0,) * 16)
            measured = take_turns(
                {
                    "an image, a mirror image, a batch of crops at a time": partial(loop, some, made_net(), view),
                    "ours": partial(ours, some, made_net(), view),
                },
                given.turns,
            )
            report(f"{view}, Q = {Q}", "images/s", measured, next(iter(measured)))


if __name__ == "__main__":
    main()
