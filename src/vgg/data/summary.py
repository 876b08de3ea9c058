"""What a folder of photos holds, in a few lines: said before anything is trained on it."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median

from vgg.core.config import Data
from vgg.data import held_out
from vgg.data.datasets import without_split
from vgg.data.listing import READERS, Listing, list_folder, size

MOST = 50_000  # photos whose headers are read for it


def summary(data: Data, images: dict[str, Listing], cache: Path) -> str:
    """Counts, classes, split, sizes, what cannot be read, and the steps of an epoch."""
    train, val = images["train"], images["val"]
    split = ""
    if without_split(data, train.root):
        split = f", {100 * data.val_share:g} % of the photos held out by their content (data.val_share)"
        if twins := held_out.duplicates(list_folder(train.root), cache):
            split += f"; {twins:,} have the same content as another one, and stand on its side"
    lines = [f"{len(train):,} training and {len(val):,} validation photos of {len(train.classes)} classes{split}"]
    counts = Counter(train.labels)
    (most, many), (least, few) = counts.most_common()[0], counts.most_common()[-1]
    lines.append(
        f"{few:,} to {many:,} training photos a class ({train.classes[least]} … {train.classes[most]}); "
        f"{len(train) // data.batch:,} steps of {data.batch} an epoch"
    )
    if len(train) + len(val) <= MOST:
        with ThreadPoolExecutor(READERS) as pool:
            sizes = [one for part in (train, val) for one in pool.map(partial(size, part), range(len(part)))]
        readable = [one for one in sizes if one is not None]
        if readable:
            width, height = (round(median(side)) for side in zip(*readable, strict=True))
            smallest = min(map(min, readable))
            lines.append(f"{width} x {height} pixels in the middle, the smallest side {smallest}")
        if unreadable := len(sizes) - len(readable):
            lines.append(f"{unreadable:,} cannot be read: python -m vgg check {data.root} names them")
    return "\n".join(f"  {line}" for line in lines)
