"""The authors' files in Caffe's format."""

import numpy as np
import torch
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from torch import Tensor

from vgg.core.paper import IMAGENET_MEAN
from vgg.nets.base import FC_LAYERS
from vgg.nets.vgg import TABLE_1, layer_names

LEGACY_DIMENSIONS = ("num", "channels", "height", "width")  # of a blob, before it had a shape


def caffe_net() -> type[Message]:
    """The parts of Caffe's NetParameter that hold weights: layers in its old V1 form, and in the newer one."""
    field, file = (
        FieldDescriptorProto,
        FileDescriptorProto(name="caffe_weights.proto", package="caffe", syntax="proto2"),
    )

    def message(name: str, *fields: tuple[str, int, int, str | None]) -> None:
        made = file.message_type.add(name=name)
        for key, number, kind, of in fields:
            repeated = key in ("layers", "layer", "blobs", "data", "dim")
            label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            one = made.field.add(name=key, number=number, type=kind, label=label, type_name=of and f".caffe.{of}")
            one.options.packed = repeated and of is None

    dimensions = [(name, number, field.TYPE_INT32, None) for number, name in enumerate(LEGACY_DIMENSIONS, start=1)]
    message("BlobShape", ("dim", 1, field.TYPE_INT64, None))
    blob = [("data", 5, field.TYPE_FLOAT, None), ("shape", 7, field.TYPE_MESSAGE, "BlobShape")]
    message("BlobProto", *dimensions, *blob)
    name, blobs = ("name", 4, field.TYPE_STRING, None), ("blobs", 6, field.TYPE_MESSAGE, "BlobProto")
    message("V1LayerParameter", name, blobs)
    name, blobs = ("name", 1, field.TYPE_STRING, None), ("blobs", 7, field.TYPE_MESSAGE, "BlobProto")
    message("LayerParameter", name, blobs)
    old, new = (
        ("layers", 2, field.TYPE_MESSAGE, "V1LayerParameter"),
        ("layer", 100, field.TYPE_MESSAGE, "LayerParameter"),
    )
    message("NetParameter", old, new)
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("caffe.NetParameter"))


def from_caffe(content: bytes, model: str) -> dict[str, Tensor]:
    """Our state_dict from a caffemodel of the authors, BGR turned to RGB in conv1_1. ValueError for another file."""
    net = caffe_net().FromString(content)
    blobs = {layer.name: layer.blobs for layer in (*net.layers, *net.layer) if layer.blobs}
    tensors: dict[str, Tensor] = {"mean": torch.tensor(IMAGENET_MEAN)}
    for name in layer_names(model):
        if name not in blobs:
            raise ValueError(f"it has no layer {name}, but {', '.join(blobs) or 'none'}")
        weight, bias = (torch.from_numpy(np.array(one.data, dtype=np.float32)) for one in blobs[name])
        if name in FC_LAYERS:  # (inputs, outputs) in two of four legacy dimensions, inputs in the order C, H, W
            window = 7 if name == "fc6" else 1
            weight = weight.view(len(bias), -1, window, window)
        else:
            kernel = int(TABLE_1[model][int(name[4]) - 1].split()[int(name[6:]) - 1].split("-")[0])
            weight = weight.view(len(bias), -1, kernel, kernel)
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = weight, bias
    tensors["conv1_1.weight"] = tensors["conv1_1.weight"].flip(1)
    return tensors
