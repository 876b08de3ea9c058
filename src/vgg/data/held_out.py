"""A folder of class folders without train/ and val/: which of its photos are held out for validation.

A photo is held out by its bytes alone. It stays on its side when others are added, removed or renamed, and photos of
equal content are always on the same side.
"""

import hashlib
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vgg.core.errors import require
from vgg.core.files import alone, write_whole
from vgg.core.paths import folder_digest
from vgg.data.listing import READERS, Listing


def content_sums(images: Listing, cache: Path) -> list[str]:
    """The SHA-256 of each image's bytes, in order; of one that cannot be read that of its name.

    They are kept in the cache, and computed anew for files whose size or time of change is another.
    """
    kept = cache / "index" / f"{folder_digest(images.root)}-content.json"

    def state(file: str) -> list[int]:
        try:
            status = (images.root / file).stat()
        except OSError:
            return [0, 0]
        return [status.st_size, status.st_mtime_ns]

    def content_sum(index: int) -> str:
        try:
            return hashlib.sha256(images.read(index)).hexdigest()
        except OSError:
            return hashlib.sha256(images.files[index].encode(errors="surrogateescape")).hexdigest()

    with alone(kept):
        before = json.loads(kept.read_bytes()) if kept.is_file() else {}
        states = {file: state(file) for file in images.files}
        new = [index for index, file in enumerate(images.files) if before.get(file, [])[:2] != states[file]]
        with ThreadPoolExecutor(READERS) as pool:
            sums = dict(zip(new, pool.map(content_sum, new), strict=True))
        rows = {
            file: [*states[file], sums[index] if index in sums else before[file][2]]
            for index, file in enumerate(images.files)
        }
        if rows != before:
            with write_whole(kept) as output:
                output.write(json.dumps(rows).encode())
    return [rows[file][2] for file in images.files]


def is_held_out(content_sum: str, share: float) -> bool:
    """Whether a photo of this content is for validation: as often as `share` says, whatever the other photos are."""
    return int(content_sum[:16], 16) < share * 2**64


def part(images: Listing, split: str, share: float, cache: Path) -> Listing:
    """The images of split "train" or "val" of a folder without a split.

    Raises UserError naming a class that has no photo on one of the sides.
    """
    held_out = [is_held_out(one, share) for one in content_sums(images, cache)]
    counts = Counter(zip(images.labels, held_out, strict=True))
    for label, name in enumerate(images.classes):
        trained, validated = counts[label, False], counts[label, True]
        require(
            bool(trained and validated),
            f"the class {name} of {images.root} has {trained + validated} photos, {validated} of them held out for "
            f"validation (data.val_share={share:g}): it needs more photos, another share, or folders train/ and val/",
        )
    return images.subset([index for index, held in enumerate(held_out) if held == (split == "val")])


def duplicates(images: Listing, cache: Path) -> int:
    """How many photos have the content of another one."""
    return sum(count for count in Counter(content_sums(images, cache)).values() if count > 1)
