import tarfile
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import composed, noise
from scipy.io import savemat

from vgg.core.errors import UserError
from vgg.evaluation import submission
from vgg.evaluation.images import evaluated_images
from vgg.nets import pretrained

WNIDS = ["n03", "n01", "n05", "n02", "n04", "n00"]  # the devkit's order is not the sorted one


@pytest.fixture
def ilsvrc(tmp_path):
    """A devkit with six classes and one inner node of the hierarchy, and three unlabelled test images."""
    data = tmp_path / "ILSVRC2012_devkit_t12" / "data"
    data.mkdir(parents=True)
    rows = [(number, wnid, 0) for number, wnid in enumerate(WNIDS, start=1)] + [(7, "n99", 6)]
    kind = [("ILSVRC2012_ID", object), ("WNID", object), ("num_children", object)]
    savemat(data / "meta.mat", {"synsets": np.array(rows, dtype=kind)})
    (tmp_path / "test").mkdir()
    for number in (2, 1, 3):
        noise(number).save(tmp_path / "test" / f"ILSVRC2012_test_0000000{number}.JPEG")
    (tmp_path / "test" / "readme.txt").write_text("not an image")
    return tmp_path


def configuration(root, *more):
    return composed(f"data.root={root}", "data=imagenet", "submission=labels.txt", *more, evaluate=True)


def test_the_devkits_numbers_come_from_its_folder_or_its_archive(ilsvrc, tmp_path):
    expected = {wnid: number for number, wnid in enumerate(WNIDS, start=1)}
    assert submission.ilsvrc_ids(configuration(ilsvrc)) == expected
    archive = tmp_path / "kit.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(ilsvrc / "ILSVRC2012_devkit_t12", "ILSVRC2012_devkit_t12")
    assert submission.ilsvrc_ids(configuration("/none", f"devkit={archive}")) == expected


def test_test_images_are_in_the_order_of_their_names(ilsvrc):
    images = evaluated_images(configuration(ilsvrc), tuple(sorted(WNIDS)))
    assert [name[-6:] for name in images.files] == ["1.JPEG", "2.JPEG", "3.JPEG"]
    assert set(images.labels) == {-1}


def test_a_line_has_the_devkits_numbers_of_the_five_most_probable_classes(ilsvrc, tmp_path):
    classes = tuple(sorted(WNIDS))
    numbers = submission.numbers(classes, submission.ilsvrc_ids(configuration(ilsvrc)))
    posterior = np.array([[0.5, 0.2, 0.1, 0.1, 0.06, 0.04], [0.0, 0.1, 0.1, 0.2, 0.25, 0.35]])
    submission.write(tmp_path / "labels.txt", posterior, numbers)
    # n00 n01 n02 n03 n04 n05 are the devkit's 6 2 4 1 5 3
    assert (tmp_path / "labels.txt").read_text() == "6 2 4 1 5\n3 5 1 2 4\n"


@pytest.mark.parametrize(
    ("break_it", "named"),
    [
        (lambda root: (root / "ILSVRC2012_devkit_t12/data/meta.mat").write_bytes(b"not a mat file"), "meta.mat"),
        (lambda root: (root / "ILSVRC2012_devkit_t12/data/meta.mat").unlink(), "meta.mat"),
        (lambda root: (root / "ILSVRC2012_devkit_t12").rename(root / "elsewhere"), "devkit=PATH"),
    ],
)
def test_a_missing_or_damaged_devkit_is_named(break_it, named, ilsvrc):
    break_it(ilsvrc)
    with pytest.raises(UserError, match=named):
        submission.ilsvrc_ids(configuration(ilsvrc))


def test_classes_that_are_not_ilsvrcs_are_refused(ilsvrc):
    with pytest.raises(UserError, match="cat"):
        submission.numbers(("cat", *WNIDS), submission.ilsvrc_ids(configuration(ilsvrc)))


def test_missing_test_images_are_named(ilsvrc):
    with pytest.raises(UserError, match="test=FOLDER"):
        evaluated_images(configuration("/none"), ("n00",))


def test_a_published_nets_classes_are_the_devkits_synsets_in_order():
    ids = {f"n{number:08d}": 1000 - number for number in range(1000)}
    words = pretrained.class_names(1000)

    def net(classes: tuple[str, ...], is_published: bool) -> SimpleNamespace:
        return SimpleNamespace(record=lambda: {"classes": list(classes)}, published=is_published)

    own = net(tuple(sorted(ids)), False)
    for nets in ([net(words, True)], [net(words, True), own], [own, net(words, True)], [own]):
        assert submission.class_names(nets, ids) == tuple(sorted(ids))
    numbers = submission.numbers(submission.class_names([net(words, True)], ids), ids)
    assert numbers.tolist() == list(range(1000, 0, -1))
    for other in (net(words, False), net(("0", "1", "2"), True)):
        with pytest.raises(UserError, match="not classes of ILSVRC-2012"):
            submission.numbers(submission.class_names([other], ids), ids)
