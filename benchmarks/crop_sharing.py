"""How much of multi-crop evaluation's work the 50 crops of a scale could share exactly. Counted, not timed.

python benchmarks/crop_sharing.py

A feature of a crop is the whole image's feature where two things hold. Its receptive field lies inside the crop, or
ends at the image's own border: elsewhere the crop sees its own zero padding. And the crop's offset is a multiple of the
pooling so far, or the whole image is computed once more for that phase. The rest, strips along the borders of each
crop, has to be computed crop by crop: layer by layer with the shared features beside them, which is the least that
there is to compute, or each strip from its pixels, wide enough that its own inner border does no harm, which is what a
few lines of code could do. The mirror images share in the same way among themselves.
"""

from collections import defaultdict

from vgg.evaluation.views import GRID, grid
from vgg.nets.vgg import VGG

CROP = 224


def union(intervals: list[tuple[int, int]]) -> int:
    """How much of an axis they cover together."""
    covered, end = 0, 0
    for low, high in sorted(intervals):
        covered += max(0, high - max(low, end))
        end = max(end, high)
    return covered


def inside(offset: int, length: int, stride: int, margin: int) -> tuple[int, int]:
    """The part of a crop's features that are the whole image's, on one axis, in features of the image at its phase."""
    low = offset // stride + (0 if offset == 0 else margin)
    high = (offset + CROP) // stride - (0 if offset + CROP == length else margin)
    return low, max(low, high)


def area_inside(width: int, height: int, stride: int, margin: int) -> int:
    """Of all crops together."""
    x, y = (
        sum(high - low for offset in grid(length, CROP) for low, high in [inside(offset, length, stride, margin)])
        for length in (width, height)
    )
    return x * y


def saved(net: VGG, blocks: int, width: int, height: int) -> tuple[int, int]:
    """Multiply-adds saved by sharing the first blocks, with strips layer by layer and with strips from the pixels."""
    margin, side, stride, reach = 0, CROP, 1, 0
    layers = []  # multiply-adds of one feature, features of a side, computed once, inside the crops
    for block in net.blocks[:blocks]:
        for layer in block:
            weights = net.get_submodule(layer).weight
            margin, reach = margin + 1, reach + stride
            phases = {}
            for axis, length in (("x", width), ("y", height)):
                phases[axis] = defaultdict(list)
                for offset in grid(length, CROP):
                    phases[axis][offset % stride].append(inside(offset, length, stride, margin))
            once = sum(union(xs) * union(ys) for xs in phases["x"].values() for ys in phases["y"].values())
            layers.append((weights.numel(), side, once, area_inside(width, height, stride, margin)))
        side, stride, margin = side // 2, 2 * stride, -(-margin // 2)
    by_layer = sum(cost * (inner - once) for cost, _, once, inner in layers)
    without_strips = area_inside(width, height, 1, margin * stride + reach) / (GRID * CROP) ** 2
    by_pixels = sum(cost * (GRID**2 * side**2 * without_strips - once) for cost, side, once, _ in layers)
    return by_layer, round(by_pixels)


def main() -> None:
    for name in ("A", "D"):
        net = VGG(name)
        total = GRID**2 * net.multiply_adds()
        print(f"\nnet {name}: of all multiply-adds of the crops, saved by sharing the first blocks, in %")
        print("                   strips layer by layer            strips from the pixels")
        print("   Q  image        1    1-2    1-3    1-4    1-5      1    1-2    1-3    1-4    1-5")
        for q in (256, 384, 512):
            for width, height in ((q, q), (round(q * 4 / 3), q)):
                both = zip(*(saved(net, blocks, width, height) for blocks in range(1, 6)), strict=True)
                cells = ["".join(f"{100 * max(0, part) / total:6.1f} " for part in parts) for parts in both]
                print(f" {q:3d}  {width:3d} x {height:3d} {cells[0]} {cells[1]}")


if __name__ == "__main__":
    main()
