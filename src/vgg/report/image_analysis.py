"""What a net makes of single images: confusion, the hardest images with their score maps, filters, the error over Q."""

import base64
import io
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vgg.core.errors import UserError
from vgg.core.scales import real_pixels
from vgg.data.datasets import listing
from vgg.data.encoded_image import Picture
from vgg.data.listing import Listing
from vgg.data.transforms import rescale
from vgg.evaluation import posteriors
from vgg.evaluation.posteriors import Key
from vgg.evaluation.records import Classification
from vgg.nets import state_dicts
from vgg.report.parts import Lacking
from vgg.runs import weights
from vgg.runs.run import Run

SHOWN = 6  # images of each kind

SHOWN_PIXELS = 320  # of a shown photo's longer side, at most


@dataclass(frozen=True)
class Scored:
    """An evaluation with its posteriors: of the images that it covers, their indices and labels, (images, classes)."""

    line: Classification
    images: Listing
    indices: np.ndarray
    labels: np.ndarray
    posterior: np.ndarray

    @property
    def true_probability(self) -> np.ndarray:
        """(images,): the true class's probability."""
        return self.posterior[np.arange(len(self.labels)), self.labels]

    @property
    def best(self) -> np.ndarray:
        """(images,): the most probable class; of equal ones the first."""
        return self.posterior.argmax(1)


def arrays(line: Classification, kept: Path) -> dict[tuple[str, str, int], Path]:
    """(run, view, Q) -> where the posteriors that an evaluation averages lie in the cache `kept`."""
    of_nets = zip(line.runs, line.weights_sha256, line.ceil_mode, line.mirror, line.q, strict=True)
    return {
        (run, view, q): Key(
            weights=sha256,
            images=line.images_sha256,
            view=view,
            q=q,
            softmax=line.softmax if view == "dense" else "last",
            ceil_mode=ceil_mode,
            mirror=mirror,
            precision=line.precision,
        ).path(kept)
        for run, sha256, ceil_mode, mirror, scales in of_nets
        for view in line.views
        for q in scales
    }


def at_hand(line: Classification, kept: Path) -> bool:
    """Whether all posteriors of an evaluation lie in the cache."""
    paths = arrays(line, kept).values()
    return bool(paths) and all(path.is_file() for path in paths)


def validation_images(run: Run, kept: Path) -> Listing:
    """The validation images that the run's configuration names. Raises Lacking where they are not on this machine."""
    if not (run.folder / "config.yaml").is_file():
        raise Lacking(f"This needs the folder of {run.name}, which tells where the images are: {run.folder}.")
    data = replace(run.config().data, download=False)
    try:
        return listing(data, kept, "val")
    except UserError as error:
        raise Lacking(f"This needs the validation images: {error}.") from error


def evaluated_images(line: Classification, runs: Path, kept: Path) -> Listing:
    """The images that an evaluation was about. Raises Lacking where they are not on this machine."""
    images = validation_images(Run.named(line.runs[0], runs), kept)
    if images.sha256 != line.images_sha256:
        raise Lacking(f"This needs the images that were evaluated; those in {images.root} are others.")
    return images


def scored(line: Classification, runs: Path, kept: Path) -> Scored:
    """An evaluation whose posteriors are at hand. Raises Lacking where its images are not on this machine."""
    images = evaluated_images(line, runs, kept)
    loaded = [posteriors.load(path, len(images)) for path in arrays(line, kept).values()]
    indices = np.flatnonzero(np.logical_and.reduce([covered for _, covered in loaded]))
    mean = posteriors.mean([rows for rows, _ in loaded])[indices]
    return Scored(line, images, indices, np.array(images.labels)[indices], mean)


def best(lines: list[Classification], runs: Path, kept: Path) -> Scored:
    """Of one net, the evaluation with the lowest top-1 error among those at hand; Lacking where none is."""
    here = [line for line in lines if len(line.runs) == 1 and at_hand(line, kept)]
    if not here:
        raise Lacking(f"This needs posteriors in {kept / 'posteriors'}.", "python evaluate.py")
    return scored(min(here, key=lambda line: line.top1), runs, kept)


def over_q(lines: list[Classification], runs: Path, kept: Path) -> dict[tuple[str, str], dict[int, float]]:
    """(run, view) -> Q -> top-1 error in %: of evaluations at one scale, and of the single arrays of the others.

    Those that are not in the cache, or whose images are not here, are left out.
    """
    errors: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    for line in lines:
        if len(line.runs) == len(line.views) == len(line.q[0]) == 1:
            errors[line.runs[0], line.views[0]][line.q[0][0]] = line.top1
    for line in lines:
        single = {
            key: path for key, path in arrays(line, kept).items() if path.is_file() and key[2] not in errors[key[:2]]
        }
        with suppress(Lacking):
            images = evaluated_images(line, runs, kept) if single else None
            for (run, view, q), path in single.items():
                rows, covered = posteriors.load(path, len(images))
                errors[run, view][q] = float(100 * (rows.argmax(1) != images.labels)[covered].mean())
    return errors


def confusion(result: Scored) -> np.ndarray:
    """(classes, classes) numbers of images: row the true class, column the most probable one."""
    classes = len(result.images.classes)
    return np.bincount(classes * result.labels + result.best, minlength=classes**2).reshape(classes, classes)


def confused(counts: np.ndarray, names: tuple[str, ...]) -> list[tuple[str, str, int, float]]:
    """The most frequent errors: true class, class taken for it, images, share of the true class's in %."""
    wrong = counts - np.diag(np.diag(counts))
    pairs = [divmod(int(cell), len(counts)) for cell in np.argsort(-wrong, axis=None, kind="stable")[: 2 * SHOWN]]
    return [
        (names[true], names[said], int(wrong[true, said]), float(100 * wrong[true, said] / counts[true].sum()))
        for true, said in pairs
        if wrong[true, said]
    ]


@dataclass(frozen=True)
class ScoreMap:
    """A class over one image: its posterior in the evaluation, and of each cell (x, y, probability there).

    x, y: the upper left corner of the square in the middle of the window that the cell stands for; `side` is its side,
    the distance to the next cell. All in pixels of the rescaled image.
    """

    name: str
    true: bool
    posterior: float
    side: int
    cells: list[tuple[float, float, float]]


@dataclass(frozen=True)
class Card:
    """One image with its maps: its most probable class, and beside it the true one, or where that is it the second."""

    file: str
    truth: str
    width: int
    height: int
    photo: str
    maps: list[ScoreMap]


def hardest(result: Scored) -> tuple[list[int], list[int]]:
    """Places in `result` of the least certain images, and of those whose true class is the least probable."""
    certain = np.argsort(result.posterior.max(1), kind="stable")
    return certain[:SHOWN].tolist(), np.argsort(result.true_probability, kind="stable")[:SHOWN].tolist()


def cards(result: Scored, places: list[int], runs: Path) -> list[Card]:
    """Images at these places of `result`, at its largest Q, with the dense class score map (section 3.2) of the net.

    Of the image as it is: that of its mirror image, which the evaluation averages in, is not drawn.
    """
    run = Run.named(result.line.runs[0], runs)
    if not run.finished:
        raise Lacking(f"This needs the weights of {run.name}: {run.weights}.")
    net, names = weights.load(run)
    if not net.dense:
        raise Lacking(f"{run.name} has no score maps: its input is fixed.")
    net.ceil_mode = result.line.ceil_mode[0]
    side, margin, made = real_pixels(max(result.line.q[0]), net.scale), (net.cell - net.stride) / 2, []
    for row_of_image in places:
        index, label = int(result.indices[row_of_image]), int(result.labels[row_of_image])
        pixels = rescale(Picture(result.images.read(index)), side)
        with torch.inference_mode():
            score = net.score_map(pixels.permute(2, 0, 1)[None].float())[0].softmax(0).numpy()
        first, second = np.argsort(-result.posterior[row_of_image], kind="stable")[:2].tolist()
        maps = []
        for shown_class in (first, second if first == label else label):
            cells = [
                (net.stride * column + margin, net.stride * row + margin, float(probability))
                for (row, column), probability in np.ndenumerate(score[shown_class])
            ]
            maps.append(
                ScoreMap(
                    names[shown_class],
                    shown_class == label,
                    float(result.posterior[row_of_image, shown_class]),
                    net.stride,
                    cells,
                )
            )
        height, width = pixels.shape[:2]
        made.append(Card(result.images.files[index], names[label], width, height, jpeg(pixels.numpy()), maps))
    return made


def jpeg(pixels: np.ndarray) -> str:
    """(H, W, 3) uint8 as a data URI, made smaller where it is large."""
    image, file = Image.fromarray(pixels), io.BytesIO()
    image.thumbnail((SHOWN_PIXELS, SHOWN_PIXELS))
    image.save(file, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def filters(run: Run) -> dict[str, Any]:
    """The first layer's filters of a finished run: a PNG in which a pixel is a weight, its width, and their number.

    Each filter has its own scale: grey is 0, and its largest weight is as far as colours go.
    """
    state = state_dicts.read_tensors(run.weights, {"state_dict"})["state_dict"]
    kernels = next(tensor for tensor in state.values() if tensor.ndim == 4)
    count, _, side, _ = kernels.shape
    kernels = kernels.expand(-1, 3, -1, -1)  # LeNet-5's are grey
    levels = kernels / kernels.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-12)
    levels = (127.5 + 127.5 * levels).round().byte().permute(0, 2, 3, 1).numpy()
    columns = min(count, 16)
    sheet = np.zeros((-(-count // columns) * (side + 1) - 1, columns * (side + 1) - 1, 4), np.uint8)
    for number, kernel in enumerate(levels):
        row, column = (corner * (side + 1) for corner in divmod(number, columns))
        sheet[row : row + side, column : column + side] = np.dstack([kernel, np.full((side, side), 255, np.uint8)])
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, "PNG")
    uri = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    return {"uri": uri, "width": sheet.shape[1], "count": count}
