"""Dense and multi-crop evaluation, against the straightforward loop and against what no evaluation can do without.

python benchmarks/evaluation.py --photos FOLDER --imagenette FOLDER

Of a folder of photos of ImageNet's sizes, with net D at a quarter of the width and 224 crops, against a loop that takes
an image at a time, its mirror image after it, 50 crops of it as one batch; NCHW in memory. Of the digits, and of
Imagenette (with train/ and val/), with their nets D, against one decoding and rescaling of each file and the bare
forward passes of batches in memory. All decode in the same process that computes; Q = 256.
"""

import argparse
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from measure import configured, machine, report, take_turns
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor, resize

from vgg.core.scales import real_pixels
from vgg.data.datasets import listing
from vgg.data.encoded_image import Picture
from vgg.data.listing import Listing
from vgg.data.transforms import channels_last, rescale
from vgg.data.workers import Loader
from vgg.evaluation.scoring import Scoring, WholeImages, batches, collate, sizes
from vgg.evaluation.views import windows
from vgg.launch.processes import quiet
from vgg.launch.trainer import lightning_trainer
from vgg.nets import initialisation
from vgg.nets.vgg import VGG
from vgg.runs import weights

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


def bare(images: Listing, net: VGG, view: str, mirror: bool) -> float:
    """Images/s of decoding and rescaling every file, then of the forward passes alone."""
    side = real_pixels(Q, net.scale)
    started = time.perf_counter()
    whole = [rescale(Picture(images.read(index)), side) for index in range(len(images))]
    decoding = time.perf_counter() - started
    parts = []
    for order in batches([tuple(image.shape[1::-1]) for image in whole], side, BATCH):
        batch = channels_last(torch.stack([whole[index] for index in order]))
        if view != "dense":
            corners = windows(*batch.shape[2:], net.crop, view)
            batch = torch.cat([batch[:, :, y : y + net.crop, x : x + net.crop] for y, x in corners])
        parts += [one for part in batch.split(100) for one in ((part, part.flip(3)) if mirror else (part,))]
    started = time.perf_counter()
    for part in parts:
        net(part)
    return len(images) / (decoding + time.perf_counter() - started)


def ours(images: Listing, net: VGG, view: str, mirror: bool = True) -> float:
    """Images/s, with Lightning's trainer and everything else that scoring does after its process has started."""
    trainer = lightning_trainer(configured("trainer=cpu").trainer, logger=False)
    started = time.perf_counter()
    side = real_pixels(Q, net.scale)
    loader = Loader(WholeImages(images, side), batch_sampler=batches(sizes(images), side, BATCH), collate_fn=collate)
    scoring = Scoring(net, images, view, "last", mirror)
    trainer.test(scoring, loader, verbose=False)
    assert scoring.covered.all()
    return len(images) / (time.perf_counter() - started)


def first(images: Listing, count: int) -> Listing:
    """As many of a listing's images, spread over it."""
    step = max(1, len(images) // count)
    return replace(images, **{key: getattr(images, key)[::step] for key in ("files", "sizes", "labels")})


def photos(folder: Path) -> Listing:
    paths = sorted(folder.iterdir())
    files, bytes_ = tuple(path.name for path in paths), tuple(path.stat().st_size for path in paths)
    return Listing(folder, ("any",), files, bytes_, (0,) * len(files))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--imagenette", type=Path)
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_args()
    quiet()
    print(machine())
    if given.photos:
        images, net = photos(given.photos), made_net()
        for view, count in (("dense", len(images)), ("multicrop", 16)):
            some = first(images, count)
            naive = {"an image, a mirror image, a batch of crops at a time": partial(loop, some, net, view)}
            measured = take_turns(naive | {"ours": partial(ours, some, net, view)}, given.turns)
            report(f"{len(some)} photos, {view}, Q = {Q}", "images/s", measured, next(iter(measured)))
    options = [("data=digits",)]
    options += [("data=imagenette", f"data.root={given.imagenette}")] if given.imagenette else []
    for option in options:
        cfg = configured("model=D", *option)
        images = listing(cfg.data, Path(cfg.dirs.cache), "val")
        net = weights.build(cfg, cfg.data.classes).to(memory_format=torch.channels_last).eval()
        initialisation.draw(net, "glorot", 1)
        for view, count in (("dense", 1800), ("multicrop", 300)):
            some = first(images, count)
            alternatives = {
                "decoding once, and the bare forward passes": partial(bare, some, net, view, cfg.data.mirror),
                "ours": partial(ours, some, net, view, cfg.data.mirror),
            }
            measured = take_turns(alternatives, given.turns)
            report(f"{option[0]}, {len(some)} images, {view}, Q = {Q}", "images/s", measured, next(iter(measured)))


if __name__ == "__main__":
    with torch.inference_mode():
        main()
