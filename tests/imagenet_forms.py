"""ImageNet in small, in every form that people have it in: what writes three classes of noise to a folder so."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import noise
from scipy.io import savemat

from vgg.data.imagenet import labels, layouts
from vgg.data.listing import Listing

SYNSETS = ("n01440764", "n01443537", "n01484850")
IDS = {"n01440764": 3, "n01443537": 1, "n01484850": 2}  # the devkit's order is not the sorted one
Data = dict[str, dict[str, bytes]]  # split -> "synset/name" -> content


def jpeg(seed: int, mode: str = "RGB", form: str = "JPEG", side: int = 30) -> bytes:
    file = io.BytesIO()
    noise(seed, side, 20).convert(mode).save(file, form)
    return file.getvalue()


def made() -> Data:
    """Three classes of four training and two validation images, in no particular order."""
    train = {
        f"{synset}/{synset}_{9 * n + 2}.JPEG": jpeg(10 * i + n) for n in range(4) for i, synset in enumerate(SYNSETS)
    }
    val = {f"{SYNSETS[n * 2 % 3]}/ILSVRC2012_val_{n + 1:08d}.JPEG": jpeg(100 + n, side=31 + n) for n in range(6)}
    return {"train": train, "val": val}


def tarred(path: Path, contents: dict[str, bytes], **how: str) -> bytes:
    with tarfile.open(path, **{"mode": "w"} | how) as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path.read_bytes()


def by_name(contents: dict[str, bytes]) -> dict[str, bytes]:
    return {name.partition("/")[2]: content for name, content in contents.items()}


def number(name: str) -> int:
    return SYNSETS.index(name[:9])


def write_folders(root: Path, split: str, contents: dict[str, bytes]) -> None:
    for name, content in contents.items():
        (root / split / name).parent.mkdir(parents=True, exist_ok=True)
        (root / split / name).write_bytes(content)


def write_devkit(root: Path, val: dict[str, bytes], archive: bool = True) -> None:
    kind = [("ILSVRC2012_ID", object), ("WNID", object), ("num_children", object)]
    rows = [(number, synset, 0) for synset, number in IDS.items()] + [(4, "n99999999", 3)]
    meta, names = io.BytesIO(), sorted(val, key=lambda name: name.partition("/")[2])
    savemat(meta, {"synsets": np.array(rows, dtype=kind)})
    truth = "".join(f"{IDS[name[:9]]}\n" for name in names).encode()
    contents = {labels.META: meta.getvalue(), labels.GROUND_TRUTH: truth}
    if archive:
        contents = {f"{labels.DEVKIT}/{name}": content for name, content in contents.items()}
        tarred(root / f"{labels.DEVKIT}.tar.gz", contents, mode="w:gz")
    else:
        for name, content in contents.items():
            (root / labels.DEVKIT / name).parent.mkdir(parents=True, exist_ok=True)
            (root / labels.DEVKIT / name).write_bytes(content)


def write_original(root: Path, split: str, contents: dict[str, bytes]) -> None:
    if split == "val":
        tarred(root / layouts.ORIGINAL["val"], by_name(contents))
        write_devkit(root, contents)
        return
    inner = {}
    for synset in reversed(SYNSETS):
        images = by_name({name: content for name, content in contents.items() if name.startswith(synset)})
        inner[f"{synset}.tar"] = tarred(root / "inner.tar", images)
    (root / "inner.tar").unlink()
    tarred(root / layouts.ORIGINAL["train"], inner)


def write_kaggle(root: Path, split: str, contents: dict[str, bytes]) -> None:
    folder = root / layouts.KAGGLE
    if split == "train":
        write_folders(folder, split, contents)
        return
    (folder / "val").mkdir(parents=True)
    lines = ["ImageId,PredictionString"]
    for name, content in contents.items():
        (folder / name.replace(name[:9], "val", 1)).write_bytes(content)
        lines.append(f"{Path(name).stem},{name[:9]} 85 1 499 272 {name[:9]} 1 2 3 4 ")
    (root / labels.SOLUTION).write_text("\n".join(lines) + "\n")


def write_shards(root: Path, split: str, contents: dict[str, bytes], label: Callable[[str], int] = number) -> None:
    """As timm's: shuffled, two to a split, the training images' labels in .cls, the validation images' in .json."""
    names = sorted(contents, key=lambda name: name[::-1])
    for part in range(2):
        members = {}
        for name in names[part::2]:
            key = Path(name).stem
            members[f"{key}.jpg"] = contents[name]
            about = {"filename": f"{key}.JPEG", "label": label(name), "width": 1}
            members |= {f"{key}.json": json.dumps(about | ({"wnid": name[:9]} if split == "val" else {})).encode()}
            if split == "train":
                members |= {f"{key}.cls": f"{label(name)}\n".encode()}
        tarred(root / f"imagenet1k-{'validation' if split == 'val' else split}-{part:04d}.tar", members)


def write_unnamed_shards(
    root: Path, split: str, contents: dict[str, bytes], label: Callable[[str], int] = number
) -> None:
    """As webdataset's own example: keys are numbers."""
    members = {}
    for position, (name, content) in enumerate(contents.items()):
        members |= {f"{position:08d}.jpg": content, f"{position:08d}.cls": str(label(name)).encode()}
    tarred(root / f"imagenet-{split}-000000.tar", members)


def write_parquet(root: Path, split: str, contents: dict[str, bytes], named: bool = True) -> None:
    """As Hugging Face's: names go on with the synset id."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    (root / "data").mkdir(parents=True, exist_ok=True)
    names = sorted(contents, key=lambda name: name[::-1])
    for part in range(3):
        rows = [
            {"bytes": contents[name], "path": f"{Path(name).stem}_{name[:9]}.JPEG" if named else None}
            for name in names[part::3]
        ]
        table = pyarrow.table({"image": rows, "label": [number(name) for name in names[part::3]]})
        full = "validation" if split == "val" else split
        parquet.write_table(table, root / "data" / f"{full}-{part:05d}-of-00003.parquet")


FORMS = {
    "folders": write_folders,
    "original": write_original,
    "kaggle": write_kaggle,
    "shards": write_shards,
    "parquet": write_parquet,
}


def found(root: Path, split: str, **how: object) -> layouts.Split:
    return layouts.find(root, split, root / "cache", **how)


def described(images: Listing) -> tuple:
    return images.classes, images.files, images.sizes, images.labels, images.sha256
