"""Boxes and windows: coordinates, overlaps, the boxes of classes (appendix A).

A box of an image is (x0, y0, x1, y1) in parts of its width and height; as the net's target and output it is (centre x,
centre y, width, height) relative to the window that the net looks at: the training crop, or a cell's.
"""

import torch
from torch import Tensor
from torchvision.ops import box_convert

OVERLAP = 0.5  # a box is right when the intersection over the union is larger


def to_window(boxes: Tensor, size: tuple[int, int], left: float, top: float, crop: int, mirrored: bool) -> Tensor:
    """Boxes (..., 4) of an image that is rescaled to `size` pixels -> as seen from the window, mirrored or not."""
    width, height = size
    x0, y0, x1, y1 = (boxes * boxes.new_tensor([width, height, width, height])).unbind(-1)
    seen = torch.stack([x0 - left, y0 - top, x1 - left, y1 - top], -1) / crop
    centred = box_convert(seen, "xyxy", "cxcywh")
    return torch.cat([1 - centred[..., :1], centred[..., 1:]], -1) if mirrored else centred


def from_window(seen: Tensor, size: tuple[int, int], left: float, top: float, crop: int, mirrored: bool) -> Tensor:
    """The inverse of `to_window`."""
    centred = torch.cat([1 - seen[..., :1], seen[..., 1:]], -1) if mirrored else seen
    x0, y0, x1, y1 = (box_convert(centred, "cxcywh", "xyxy") * crop).unbind(-1)
    width, height = size
    return torch.stack([(x0 + left) / width, (y0 + top) / height, (x1 + left) / width, (y1 + top) / height], -1)


def overlaps(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union of corner boxes (..., 4), broadcast against each other; 0 for boxes without an area."""
    low, high = torch.maximum(one[..., :2], other[..., :2]), torch.minimum(one[..., 2:], other[..., 2:])
    both = (high - low).clamp(min=0).prod(-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1) for boxes in (one, other)]
    return (both / (areas[0] + areas[1] - both)).nan_to_num(0)


def boxes_of_classes(outputs: Tensor, classes: Tensor) -> Tensor:
    """(N, 4) or (N, 4 * all classes), class by class -> the boxes of the classes (N, L) asked for: (N, L, 4)."""
    if outputs.shape[1] == 4:
        return outputs[:, None].expand(-1, classes.shape[1], -1)
    return outputs.view(len(outputs), -1, 4).take_along_dim(classes[..., None], 1)


def overlap_of_pairs(found: Tensor, boxes: Tensor) -> Tensor:
    """The largest overlap of each centred box (N, 4) with those of its image (N, n, 4): (N,)."""
    one, others = (box_convert(seen.float(), "cxcywh", "xyxy") for seen in (found, boxes))
    return overlaps(one[:, None], others).amax(1)
