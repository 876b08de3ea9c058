"""What a box predictor makes of single images (appendix A): its boxes and the true ones on photos."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torchvision.ops import box_convert

from vgg.appendix.localisation.annotations import configured_boxes
from vgg.appendix.localisation.candidates import central
from vgg.appendix.localisation.geometry import overlaps
from vgg.core.errors import UserError
from vgg.core.scales import real_pixels
from vgg.data.datasets import listing
from vgg.data.encoded_image import Picture
from vgg.data.transforms import rescale
from vgg.evaluation.records import Localisation
from vgg.report.image_analysis import jpeg
from vgg.report.parts import Lacking
from vgg.runs import weights
from vgg.runs.run import Run

CARDS = 12  # photos, spread over the validation images


@dataclass(frozen=True)
class BoxCard:
    """One image with its boxes, true and predicted, each (x, y, width, height) in its pixels."""

    file: str
    truth: str
    width: int
    height: int
    photo: str
    true: list[list[float]]
    predicted: list[float]
    overlap: float


def boxed(runs: list[Run], lines: list[Localisation], cache: Path) -> tuple[str, list[BoxCard]]:
    """The best box predictor at hand by its last evaluation, and its boxes for the true class on central crops."""
    finished = {run.name: run for run in runs if run.finished and run.config().task == "localisation"}
    usable = [line for line in lines if len(line.runs) == 1 and line.runs[0] in finished]
    if not usable:
        raise Lacking("This needs an evaluated box predictor", "python train.py task=localisation")
    line = min(usable, key=lambda line: line.error)
    run = finished[line.runs[0]]
    net, names = weights.load(run, "localisation")
    cfg = run.config()
    cfg = replace(cfg, dirs=replace(cfg.dirs, cache=str(cache)))
    try:
        images = listing(cfg.data, cache, "val")
        truth = configured_boxes(cfg, images)
    except UserError as error:
        raise Lacking(str(error)) from error
    side = real_pixels(line.q[0][0], net.scale)
    made = []
    for index in range(0, len(images), max(1, len(images) // CARDS))[:CARDS]:
        pixels, label, true_box = rescale(Picture(images.read(index)), side), images.labels[index], truth[index]
        height, width = pixels.shape[:2]
        with torch.inference_mode():
            predicted = central(net, pixels.permute(2, 0, 1)[None].float(), torch.tensor([[label]]))[0, 0, :, :4]
        size = torch.tensor([width, height, width, height])
        made.append(
            BoxCard(
                images.files[index],
                names[label],
                width,
                height,
                jpeg(pixels.numpy()),
                box_convert(true_box * size, "xyxy", "xywh").tolist(),
                box_convert(predicted * size, "xyxy", "xywh")[0].tolist(),
                float(overlaps(predicted, true_box).max()),
            )
        )
    return run.name, made
