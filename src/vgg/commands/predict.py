"""The classes of photos on the command line."""

from collections import Counter
from pathlib import Path

from torch import Tensor

from vgg.core.errors import UserError
from vgg.core.files import write_whole
from vgg.evaluation.errors import method_name
from vgg.prediction.predictor import Predictor, load, protocol


def map_names(images: list[Path]) -> list[str]:
    """Names for the photos' score maps: their own, numbered where two photos have the same."""
    stems = [image.stem for image in images]
    numbered = max(Counter(stems).values()) > 1
    width = len(str(len(stems)))
    return [f"{number:0{width}d}-{stem}.png" if numbered else f"{stem}.png" for number, stem in enumerate(stems, 1)]


def save_map(predictor: Predictor, photo: Path, posterior: Tensor, path: Path) -> None:
    """Write the score map of the most probable class over the photo, with the class and its posterior, as PNG."""
    from vgg.prediction.score_maps import beside  # which imports matplotlib

    q, best = predictor.map_scale, int(posterior.argmax())
    title = f"{predictor.classes[best]}, {100 * posterior[best]:.1f} %"
    image, scores = predictor.rescaled(photo, q), predictor.score_map(photo, q)[best]
    figure = beside(image, scores, predictor.net, title, f"class score at Q = {q}")
    with write_whole(path) as file:
        figure.savefig(file, format="png", dpi=120)


def predict(run: str, images: list[Path], method: str, runs: Path, maps: Path | None) -> None:
    """Print each photo's five most probable classes, and write its score map where a folder for maps is given.

    Raises UserError at the end, naming the photos that could not be read.
    """
    predictor = load(run, runs)
    scales = ", ".join(map(str, predictor.scales))
    print(f"{run}, {method_name(protocol(method).views)}, Q = {scales}", flush=True)
    unreadable = []
    for image, name in zip(images, map_names(images), strict=True):
        try:
            posterior = predictor.posterior(image, method)
        except UserError as error:
            unreadable.append(str(error))
            continue
        lines = [f"{100 * probability:7.1f} %  {label}" for label, probability in predictor.ranked(posterior, 5)]
        print("\n".join(["", str(image), *lines]), flush=True)
        if maps is not None:
            save_map(predictor, image, posterior, maps / name)
    if unreadable:
        raise UserError("\n".join(unreadable))
