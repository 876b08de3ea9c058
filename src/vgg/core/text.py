"""Quantities in words."""


def spoken(error: str) -> str:
    """top1_error -> top-1 error."""
    return error.replace("top", "top-").replace("_", " ")


def duration(seconds: float) -> str:
    """As a person says it: 40 s, 12 min, 5.3 h, 17.2 days."""
    for size, unit in ((86_400, "days"), (3_600, "h")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
