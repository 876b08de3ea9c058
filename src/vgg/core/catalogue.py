"""Which nets `model=` names, and what each of them cannot have. Without torch: configurations are checked by it."""

OF_TABLE_1 = ("A", "A-LRN", "B", "C", "D", "E", "B-5x5")  # its columns, and section 4.1's shallow net

OURS = ("lenet5", "alexnet", "alexnet-towers", "zfnet")  # written out here

LIBRARY = {  # and those that a library has, which is also who publishes weights of them
    **dict.fromkeys(("googlenet", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"), "torchvision"),
    **dict.fromkeys(("wide_resnet50_2", "resnext50_32x4d", "densenet121"), "torchvision"),
    **dict.fromkeys(("senet154", "seresnet50"), "timm"),
}

MODELS = (*OF_TABLE_1, *OURS, *LIBRARY)

OWN_DRAW = ("lenet5", *LIBRARY)  # random weights as the publication or the library has them, and one width

TRAINING_SCALES = {"256": (256, 256), "384": (384, 384), "jitter": (256, 512)}  # S as names of runs say it

DRAWS = ("std001", "literal", "glorot", "kaiming")

NOT_DENSE = ("lenet5",)  # its input is fixed

SMALLEST_SCALE = {"densenet121": 0.25}  # a crop of 28 is too small for its pools

FC6_WINDOWS = {"alexnet": (6, 5, 5, 4), "zfnet": (6, 6, 6, 5)}  # cells a side at each of scales.SCALES

PUBLISHED = {  # weights that the world has
    "torchvision": ("A", "B", "D", "E", *(net for net, library in LIBRARY.items() if library == "torchvision")),
    "caffe": ("D", "E"),
    "timm": tuple(net for net, library in LIBRARY.items() if library == "timm"),
}


def objection(task: str, net: str, scale: float, width: float, draw: str) -> str | None:
    """Why the net cannot have this task, scale, width or draw of random weights; None where it can."""
    smallest, as_published = SMALLEST_SCALE.get(net, 0.125), net in OWN_DRAW
    if scale < smallest:
        return f"data.scale={scale:g} is too small for {net}: the smallest that fits is data.scale={smallest:g}"
    if as_published and task == "localisation":
        return f"task=localisation: {net} has no fc8 that a box could replace"
    if as_published and width != 1:
        return f"data.width={width}: {net} has one width, data.width=1"
    if as_published != (draw == "own"):
        remedy = "draw=own, as its publication or its library has it" if as_published else ", ".join(DRAWS)
        return f"init.draw={draw}: {net} is drawn by {remedy}"
    return None
