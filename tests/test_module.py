from types import SimpleNamespace

import pytest
import torch

from vgg.data.colours import Colours
from vgg.nets.vgg import VGG
from vgg.training.modules import Classifier


@pytest.mark.parametrize("brought", [[0.0, 0.0, 0.0], [123.68, 116.779, 103.939], [0.0, 0.0, 5.0]])
def test_the_mean_that_came_with_weights_stays_and_random_weights_take_the_training_images(brought):
    measured = Colours(torch.tensor([90.0, 80.0, 70.0]), torch.eye(3), torch.ones(3))
    net = VGG("A", 3, 0.125, 1 / 64)
    net.mean.copy_(torch.tensor(brought))
    Classifier(net, SimpleNamespace(layers="all"), SimpleNamespace(colours=lambda: measured)).on_fit_start()
    assert net.mean.tolist() == (torch.tensor(brought) if any(brought) else measured.mean).tolist()


def test_the_optimiser_takes_every_value_of_the_recipe():
    how = SimpleNamespace(momentum=0.7, weight_decay=0.03, nesterov=True, caffe_bias=False)
    cfg = SimpleNamespace(layers="all", optimizer=how, learning_rate=0.2)
    values = {"momentum": 0.7, "weight_decay": 0.03, "nesterov": True, "lr": 0.2, "dampening": 0}
    for how.caffe_bias, expected in ((False, [values]), (True, [values, values | {"lr": 0.4, "weight_decay": 0.0}])):
        groups = Classifier(VGG("A", 3, 0.125, 1 / 64), cfg, SimpleNamespace()).configure_optimizers().param_groups
        assert [{key: group[key] for key in values} for group in groups] == expected
        assert [len(group["params"]) for group in groups] == ([11, 11] if how.caffe_bias else [22])


@pytest.mark.parametrize(("classes", "errors"), [(5, ["top1_error"]), (6, ["top1_error", "top5_error"])])
def test_up_to_five_classes_have_no_top5_error(classes, errors):
    module = Classifier(VGG("A", classes, 0.125, 1 / 64), SimpleNamespace(layers="all"), SimpleNamespace())
    outputs = torch.eye(classes).roll(1, 0)
    _, found = module.loss(outputs, torch.arange(classes))
    assert list(found) == errors == [f"{name}_error" for name in module.accuracies]
    assert found["top1_error"] == 100
