"""An evaluation as it is printed: errors with their intervals, beside the paper's row."""

from vgg.core.catalogue import OF_TABLE_1
from vgg.core.scales import score_map_side
from vgg.data.listing import Listing
from vgg.evaluation.errors import method_name, without_mirror_images
from vgg.evaluation.records import Classification, Localisation
from vgg.evaluation.selection import paper_row
from vgg.runs.cells import CELL


def shown_scales(line: Classification | Localisation) -> list[str]:
    """The test scales, with what they are of the net: a line for each set of them."""
    scale, mode, lines = line.scale[0], line.ceil_mode[0], []
    for q in sorted(set(line.q)):
        sides = ", ".join(str(score_map_side(value, scale, mode)) for value in q)
        with_scale = all(CELL.match(cell)["model"] in OF_TABLE_1 for cell in line.cells)  # other nets have others
        about = f"scale {scale:g}, width {line.width[0]:g}" + (f"; map sides {sides}" if with_scale else "")
        lines.append(f"Q = {', '.join(map(str, q))} ({about})")
    return lines


def shown(line: Classification, images: Listing) -> str:
    """The result as a person reads it."""
    left_out = f", {line.skipped} more could not be read" if line.skipped else ""
    nets = " + ".join(line.runs)
    method = method_name(line.views) + without_mirror_images(line)
    lines = ["", f"{nets}, {method}, {line.images:,} images of {images.root}{left_out}"]
    lines += [*shown_scales(line), ""]
    row = paper_row(line)
    lines.append("                       ours   95 % interval" + ("      the paper, ImageNet" if row else ""))
    for k in (1, 5):
        if (ours := getattr(line, f"top{k}")) is not None:
            low, high = getattr(line, f"top{k}_interval")
            text = f"  top-{k} error     {ours:7.2f} %   {low:5.2f} – {high:5.2f}"
            lines.append(text + (f"      {getattr(row, f'top{k}'):5.1f} %  ({row.place})" if row else ""))
    return "\n".join(lines)
