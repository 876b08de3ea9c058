"""A finished run or a published net, ready for photos: `vgg.load(NAME)`, and `python -m vgg predict`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from vgg.core.catalogue import PUBLISHED
from vgg.core.compose import option
from vgg.core.config import EvalMethod, TestScale
from vgg.core.errors import UserError, require
from vgg.core.scales import PAPER_CROP, multi_scale, real_pixels
from vgg.data.encoded_image import UNREADABLE, Picture, reason
from vgg.data.transforms import rescale
from vgg.evaluation import views
from vgg.nets.base import Network
from vgg.runs import weights
from vgg.runs.run import Run

# Of published nets: the scale of torchvision's recipe. Its training crops are 8 to 100 % of an image, objects up to 3.5
# times as large as at S = 224, so that 512, at which a map has cells enough to be looked at, is nothing new to them.
PUBLISHED_Q, PUBLISHED_MAP_Q = 256, 512

Photo = Path | str | bytes | Image.Image  # a file, the content of one, or what Pillow has read


def protocol(method: str) -> EvalMethod:
    """Section 3.2's protocol of this name, as evaluate.py has it: dense, multicrop, fused, tencrop or center."""
    return option("eval_method", method, EvalMethod)


@dataclass(frozen=True)
class Predictor:
    """A net with what it needs to classify photos of any size.

    Photos are treated as evaluate.py treats them: an EXIF orientation is ignored, the smaller side becomes Q, the net
    subtracts the mean that it was trained with. Q is in the paper's pixels, those of a 224 crop. What is computed, is
    computed where `net` is: `predictor.net.cuda()` moves it. Raises UserError for a photo that cannot be read.
    """

    net: Network
    classes: tuple[str, ...]
    scales: tuple[int, ...]  # test scales Q where none is given
    map_scale: int  # the Q of class score maps where none is given
    mirror: bool  # whether mirror images are averaged in

    def rescaled(self, photo: Photo, q: int) -> Tensor:
        """The photo (H, W, 3), uint8, at test scale Q."""
        TestScale(rule="single", q=[q])  # refuses a Q below the crop
        try:
            if isinstance(photo, Image.Image):
                picture = Picture.of(photo)
            else:
                picture = Picture(photo if isinstance(photo, bytes) else Path(photo).read_bytes())
            return rescale(picture, real_pixels(q, self.net.scale))
        except UNREADABLE as error:
            name = photo if isinstance(photo, Path | str) else "the photo"
            raise UserError(f"{name} cannot be read: {reason(error)}") from error

    def input(self, photo: Photo, q: int) -> Tensor:
        """The photo at test scale Q as the net takes it: (1, 3, H, W), float RGB in 0..255."""
        return self.rescaled(photo, q).to(self.net.mean.device).permute(2, 0, 1)[None].float()

    @torch.no_grad()
    def posterior(self, photo: Photo, method: str = "fused", q: int | Sequence[int] | None = None) -> Tensor:
        """Class posteriors (classes,): the mean over the method's views and the scales Q, those given or `scales`."""
        views_of_method = protocol(method)
        scales = self.scales if q is None else [q] if isinstance(q, int) else q
        by_view = []
        for scale in scales:
            images = self.input(photo, scale)
            by_view += [
                views.posteriors(self.net, images, view, views_of_method.softmax, self.mirror)[0]
                for view in views_of_method.views
            ]
        return torch.stack(by_view).mean(0).cpu()

    def top(
        self, photo: Photo, k: int = 5, method: str = "fused", q: int | Sequence[int] | None = None
    ) -> list[tuple[str, float]]:
        """The k most probable classes and their posteriors, the most probable first."""
        return self.ranked(self.posterior(photo, method, q), k)

    def ranked(self, posterior: Tensor, k: int) -> list[tuple[str, float]]:
        """The k most probable classes of posteriors (classes,); ties go to the lower class index."""
        order = posterior.argsort(descending=True, stable=True)[:k].tolist()
        return [(self.classes[index], float(posterior[index])) for index in order]

    @torch.no_grad()
    def score_map(self, photo: Photo, q: int | None = None) -> Tensor:
        """Class score map (classes, h, w) before the soft-max, of the photo without its mirror image."""
        return self.net.score_map(self.input(photo, self.map_scale if q is None else q))[0].cpu()


def load(name: str, runs: str | Path = "runs") -> Predictor:
    """A net for `Predictor`'s methods: a finished run, `digits/D-jitter`, or published weights, `torchvision:vgg16`.

    A run is tested at the several scales that section 4.2 gives its training scale, as by evaluate.py. torchvision's
    and timm's are downloaded once, checked against their sha256, and tested at Q = 256.
    """
    scales, map_scale, mirror = (PUBLISHED_Q,), PUBLISHED_MAP_Q, True
    if ":" in name:
        from vgg.nets.pretrained import (
            TORCHVISION,
            library_net,  # which import torchvision
        )

        libraries = [(library, net) for library in ("torchvision", "timm") for net in PUBLISHED[library]]
        sources = {f"{library}:{TORCHVISION.get(net, net)}": (library, net) for library, net in libraries}
        require(name in sources, f"{name} is not known: a run, as digits/D-jitter, or one of {', '.join(sources)}")
        net, classes = library_net(*sources[name])
    else:
        run = Run.named(name, runs)
        net, classes = weights.load(run)
        if not run.published:
            cfg = run.config()
            several, mirror = multi_scale(cfg.train_scale.smin, cfg.train_scale.smax), cfg.data.mirror
            scales = tuple(q for q in several if q >= PAPER_CROP)
            map_scale = max(scales)  # the most cells
    return Predictor(net.to(memory_format=torch.channels_last), english(classes), scales, map_scale, mirror)


def english(classes: tuple[str, ...]) -> tuple[str, ...]:
    """ImageNet's and Imagenette's synset ids as words; other class names as they are."""
    if not all(re.fullmatch(r"n\d{8}", name) for name in classes):
        return classes
    from torchvision.datasets import Imagenette

    from vgg.nets.pretrained import class_names

    words, all_words = Imagenette._WNID_TO_CLASS, class_names(len(classes))
    if words.keys() >= set(classes):
        return tuple(words[name][0] for name in classes)
    return all_words if weights.same_outputs(all_words, classes) else classes
