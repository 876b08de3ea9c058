import hashlib
import multiprocessing
import shutil
import tarfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import torch
from conftest import decode, noise
from torchvision.datasets import Imagenette

from vgg.core.errors import UserError
from vgg.data.datasets import download_imagenette
from vgg.data.encoded_image import FORMATS
from vgg.data.listing import list_folder, same_classes
from vgg.nets import pretrained


def test_class_folders_and_files_are_in_the_order_of_their_names(root):
    (root / "bee" / "deep" / "er").mkdir(parents=True)
    noise(0).save(root / "bee" / "deep" / "er" / "x.PNG")
    images = list_folder(root)
    assert images.classes == ("ant", "bee", "cat")
    assert len(images) == len(images.labels) == len(images.sizes) == 13
    expected = [f"ant/{i}.png" for i in range(4)] + [f"bee/{i}.png" for i in range(4)]
    assert images.files[:9] == (*expected, "bee/deep/er/x.PNG")
    assert images.labels == (0,) * 4 + (1,) * 5 + (2,) * 4
    assert images.path(8) == root / "bee/deep/er/x.PNG"
    assert images.sizes[8] == (root / "bee/deep/er/x.PNG").stat().st_size


def test_hidden_files_and_junk_are_left_out(root):
    clean = list_folder(root)
    for name in (".DS_Store", "Thumbs.db", "notes.txt", "labels.csv", "._0.png", "clip.gif", "none"):
        (root / "ant" / name).write_bytes(b"GIF89a junk" if name == "clip.gif" else b"" if name == "none" else b"junk")
    (root / "readme.txt").write_text("about these images")
    noise(0).save(root / "outside.png")
    (root / ".git").mkdir()
    assert list_folder(root) == clean
    assert list_folder(root).sha256 == clean.sha256


@pytest.mark.parametrize("folder", [".thumbnails", ".ipynb_checkpoints"])
def test_hidden_folders_inside_a_class_are_left_out(root, folder):
    clean = list_folder(root)
    (root / "ant" / folder).mkdir()
    noise(0).save(root / "ant" / folder / "0.png")
    assert list_folder(root) == clean


def test_a_sound_file_is_not_taken_for_a_webp_picture(root):
    clean = list_folder(root)
    (root / "ant" / "sound.wav").write_bytes(b"RIFF\x24\x00\x00\x00WAVEfmt ")
    assert list_folder(root) == clean


@pytest.mark.parametrize("form", FORMATS)
def test_a_picture_with_a_wrong_ending_or_none_is_told_by_its_content(root, form):
    for name in ("a.dat", "b", "c.image"):
        noise(0).save(root / "ant" / name, format=form)
    images = list_folder(root)
    assert {"ant/a.dat", "ant/b", "ant/c.image"} < set(images.files)
    decode(images.path(images.files.index("ant/b")))


def test_a_missing_folder_is_refused_by_path(tmp_path):
    with pytest.raises(UserError, match=str(tmp_path / "nowhere")):
        list_folder(tmp_path / "nowhere")


def test_a_folder_without_class_folders_is_refused_by_path(tmp_path):
    noise(0).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=str(tmp_path)):
        list_folder(tmp_path)


def test_an_empty_class_folder_is_refused_by_path(root):
    (root / "dog").mkdir()
    (root / "dog" / "notes.txt").write_text("no pictures yet")
    with pytest.raises(UserError, match=str(root / "dog")):
        list_folder(root)


def test_the_sha256_is_of_classes_paths_and_sizes_and_not_of_the_place(root, tmp_path_factory):
    before = list_folder(root)
    moved = root.rename(tmp_path_factory.mktemp("elsewhere") / "data")
    images = list_folder(moved)
    assert (images.root, images.sha256) == (moved, before.sha256)
    picture = moved / "ant" / "0.png"
    picture.write_bytes(picture.read_bytes() + b"\0")
    larger = list_folder(moved).sha256
    picture.rename(picture.with_name("00.png"))
    renamed = list_folder(moved).sha256
    (moved / "cat").rename(moved / "cow")
    assert len({before.sha256, larger, renamed, list_folder(moved).sha256}) == 4


def test_other_classes_are_refused_by_name():
    same_classes(("a", "b"), ("a", "b"), "test")
    with pytest.raises(UserError, match="test.*b, c"):
        same_classes(("a", "b"), ("a", "c"), "test")


class Counting(SimpleHTTPRequestHandler):
    """Serves a folder, and keeps what was fetched of it."""

    def do_GET(self) -> None:
        self.server.fetched.append(self.path)
        super().do_GET()


@pytest.fixture
def served(root, tmp_path, monkeypatch):
    """Imagenette's archive, made of `root` and served on loopback; its true MD5 is returned."""
    source = tmp_path / "source" / "imagenette2-160"
    for split in ("train", "val"):
        shutil.copytree(root, source / split, ignore=shutil.ignore_patterns("source"))
    archive = tmp_path / "imagenette2-160.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(source, "imagenette2-160")
    handler = partial(Counting, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.fetched = []
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/imagenette2-160.tgz"

        def published(md5: str) -> None:
            monkeypatch.setattr(Imagenette, "_ARCHIVES", {"160px": (url, md5)})

        published(hashlib.md5(archive.read_bytes()).hexdigest())
        published.fetched = server.fetched
        yield published
        server.shutdown()


def test_imagenette_is_fetched_checked_and_unpacked_whole(served, tmp_path):
    cache = tmp_path / "cache"
    download_imagenette(cache / "imagenette2-160")
    assert len(list_folder(cache / "imagenette2-160" / "val")) == 12
    assert sorted(path.name for path in cache.iterdir()) == [".imagenette2-160.lock", "imagenette2-160"]


def both(call, argument) -> None:
    """Have two processes do the same at once."""
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.map(call, [argument] * 2, chunksize=1)


def test_of_two_processes_that_want_one_archive_one_fetches_it_and_the_other_waits(served, tmp_path):
    download_imagenette(tmp_path / "one" / "imagenette2-160")
    requests = len(served.fetched)  # torchvision asks for redirections first
    both(download_imagenette, tmp_path / "cache" / "imagenette2-160")
    assert len(list_folder(tmp_path / "cache" / "imagenette2-160" / "train")) == 12
    assert len(served.fetched) == 2 * requests


def test_of_two_processes_that_want_one_nets_weights_one_fetches_them(served, tmp_path, monkeypatch):
    torch.save({"a": torch.ones(1000)}, tmp_path / "net.pth")
    name = f"net-{hashlib.sha256((tmp_path / 'net.pth').read_bytes()).hexdigest()[:8]}.pth"
    (tmp_path / "net.pth").rename(tmp_path / name)
    url = Imagenette._ARCHIVES["160px"][0].rpartition("/")[0]
    monkeypatch.setattr(pretrained, "address", lambda model: f"{url}/{name}")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    both(pretrained.fetched, "A")
    assert pretrained.fetched("A").name == name
    assert served.fetched == [f"/{name}"]


def test_another_archive_than_the_published_one_is_refused(served, tmp_path):
    served("0" * 32)
    with pytest.raises(UserError, match="could not fetch"):
        download_imagenette(tmp_path / "cache" / "imagenette2-160")
    assert not (tmp_path / "cache" / "imagenette2-160").exists()


def test_the_content_sum_is_of_every_byte_and_of_nothing_else(root, tmp_path_factory, monkeypatch):
    images = list_folder(root)
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "set"
    shutil.copytree(root, elsewhere)
    assert list_folder(elsewhere).content == images.content
    (elsewhere / "bee/2.png").rename(elsewhere / "bee/9.png")  # the same bytes in another order
    assert list_folder(elsewhere).content != images.content
    changed = bytearray(images.path(5).read_bytes())
    changed[-1] ^= 1
    images.path(5).write_bytes(changed)
    assert list_folder(root).content != images.content
    assert list_folder(root).sha256 == images.sha256
    monkeypatch.setattr("vgg.data.listing.CONTENT_SAMPLE", 0)
    assert list_folder(root).content == list_folder(elsewhere).content
