"""Which images a data option names."""

import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

from vgg.core.config import Data
from vgg.core.errors import UserError, require
from vgg.core.files import alone, write_whole_folder
from vgg.data import digits, held_out, voc
from vgg.data.listing import Listing, contents, list_folder, printable


def download_imagenette(root: Path) -> None:
    """Fetch torchvision's Imagenette archive, check its MD5, unpack it to `root`: whole or not at all.

    Of several processes one does that, the others wait for it.
    """
    from torchvision.datasets import Imagenette
    from torchvision.datasets.utils import download_url

    url, md5 = Imagenette._ARCHIVES["160px"]
    archive = root.parent / Path(url).name
    with alone(root):
        if root.is_dir():
            return
        try:
            download_url(url, root.parent, md5=md5)
        except (OSError, RuntimeError) as error:  # no network; another file than expected
            raise UserError(f"could not fetch {url}: {error}") from error
        with write_whole_folder(root) as folder, tarfile.open(archive) as tar:
            for member in tar:
                member.name = member.name.partition("/")[2]  # without the archive's own top folder
                if member.name:
                    tar.extract(member, folder, filter="data")
        archive.unlink()


@dataclass(frozen=True)
class Source:
    """Where images are: the keys of a data option that say so."""

    form: str
    root: str | None
    val: str | None
    download: bool
    classes: int | None = None
    val_share: float = 0.2


def data_root(data: Data | Source, cache: Path) -> Path:
    """The folder with train/ and val/ of this data option; written or downloaded first where that was asked for."""
    if data.form == "digits":
        root = Path(data.root) if data.root else digits.folder(cache)
        if not root.is_dir():
            digits.write(root)
        return root
    if data.form == "imagenette" and not data.root:
        root = cache / "imagenette2-160"
        if data.download and not root.is_dir():
            download_imagenette(root)
        require(
            root.is_dir(),
            f"Imagenette is not in {root}: add data.download=true to fetch it (94 MB), or data.root=FOLDER",
        )
        return root
    require(bool(data.root), f"data={data.form} needs the folder that holds train/ and val/: data.root=/path/to/it")
    return Path(data.root)


def without_split(data: Data | Source, root: Path) -> bool:
    """Whether a folder of photos has class folders directly in it, and neither train/ nor val/.

    Raises UserError, saying what is there, where it has none of them.
    """
    if data.form != "folder" or data.val is not None or (root / "train").is_dir() or (root / "val").is_dir():
        return False
    require(root.is_dir(), f"data.root={root}: no such folder")
    there = ", ".join(map(printable, sorted(os.listdir(root))[:5])) or "nothing"
    require(
        bool(contents(root)[1]),
        f"data.root={root} has neither class folders nor train/ and val/ with class folders; it holds {there}",
    )
    return True


def listing(data: Data | Source, cache: Path, split: str) -> Listing:
    """The images of split "train" or "val"; classes are the sorted folder names, for ImageNet the synset ids."""
    root = data_root(data, cache)
    if data.form == "imagenet":
        from vgg.data.imagenet import layouts  # which imports scipy

        images = layouts.find(root, split, cache, data.val).images
    elif data.form == "voc":
        images = voc.per_class(root, split)
    elif without_split(data, root):
        images = held_out.part(list_folder(root), split, data.val_share, cache)
    else:
        images = list_folder(Path(data.val) if split == "val" and data.val else root / split)
    if data.classes is not None:
        require(
            len(images.classes) == data.classes,
            f"{images.root} has {len(images.classes)} classes, data.classes says {data.classes}",
        )
    return images
