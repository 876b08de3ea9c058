"""Inputs as people's disks have them: links, names, sizes and shapes of pictures, shards, checkpoints, settings."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import TINY, composed, crops_of, environment, noise
from imagenet_forms import by_name, found, jpeg, tarred, write_parquet, write_unnamed_shards
from PIL import Image, PngImagePlugin

from vgg.core import paths
from vgg.core.errors import UserError
from vgg.core.paths import REPOSITORY
from vgg.data import encoded_image
from vgg.data.crops import CentreCrops
from vgg.data.encoded_image import UNREADABLE, Picture
from vgg.data.listing import Listing, in_class_order, list_folder, refuse_unreadable, why_unreadable
from vgg.data.workers import Loader
from vgg.evaluation import scoring
from vgg.launch import processes, ranks
from vgg.nets import pretrained
from vgg.runs import weights
from vgg.training import fit as training_fit


def python(program: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    """A program of ours in a process of its own, with these variables in its environment."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


# Names and links.


@pytest.mark.parametrize("name", ["@eaDir", "__MACOSX", ".thumbnails", "$RECYCLE.BIN", "#recycle", "lost+found"])
def test_folders_that_programs_leave_are_neither_classes_nor_part_of_one(name, root):
    clean = list_folder(root)
    for folder in (root / name, root / "ant" / name):
        folder.mkdir()
        noise(0).save(folder / "0.png")
    assert list_folder(root) == clean


@pytest.mark.parametrize("name", [".DS_Store", "._0.png", "Thumbs.db", "desktop.ini", ".hidden.jpg"])
def test_files_that_programs_leave_are_no_images(name, root):
    clean = list_folder(root)
    for path in (root / name, root / "ant" / name):
        path.write_bytes(jpeg(0))
    assert list_folder(root) == clean


def test_left_files_are_left_out_of_archives(ilsvrc, tmp_path):
    images = by_name(ilsvrc["val"])
    write_unnamed_shards(tmp_path, "train", ilsvrc["train"])
    clean = found(tmp_path, "train").images
    path = tmp_path / "imagenet-train-000000.tar"
    with tarfile.open(path, "a") as tar:
        for name in ("__MACOSX/._1.jpg", "__MACOSX/9.jpg", "@eaDir/8.jpg"):
            member = tarfile.TarInfo(name)
            member.size = len(content := next(iter(images.values())))
            tar.addfile(member, io.BytesIO(content))
    assert found(tmp_path, "train").images.files == clean.files


def test_a_link_to_nothing_or_to_itself_is_an_image_that_cannot_be_read(root, tmp_path_factory):
    clean = list_folder(root)
    gone = tmp_path_factory.mktemp("gone") / "x"
    for name in ("0a.png", "link"):
        (root / "ant" / name).symlink_to(gone)
    (root / "ant" / "0b.jpg").symlink_to("0b.jpg")
    (root / "ant" / "notes.txt").symlink_to(gone)  # of no picture's ending
    images = list_folder(root)
    added = [index for index, file in enumerate(images.files) if file not in clean.files]
    assert [images.files[index] for index in added] == ["ant/0a.png", "ant/0b.jpg", "ant/link"]
    assert [images.sizes[index] for index in added] == [0, 0, 0]
    assert [why_unreadable(images, index) is None for index in range(len(images))].count(False) == 3
    assert [CentreCrops(images, 64, 56)[index][2] for index in added] == added
    with pytest.raises(UserError) as refused:
        refuse_unreadable(images, added, skip=False)
    assert f"{root / 'ant' / '0a.png'}: No such file or directory" in str(refused.value)


def test_a_class_folder_that_is_a_link_to_nothing_is_refused(root):
    (root / "dog").symlink_to(root / "nowhere")
    with pytest.raises(UserError, match=f"{root / 'dog'} leads nowhere"):
        list_folder(root)


def test_links_that_lead_round_in_a_circle_are_not_followed(root, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    noise(7).save(other / "7.png")
    (root / "ant" / "more").symlink_to(other)
    expected = list_folder(root)
    assert "ant/more/7.png" in expected.files
    for number, target in enumerate((root, root / "ant", Path("/"), root.parent)):
        (root / "ant" / f"up{number}").symlink_to(target)
    (other / "back").symlink_to(root / "ant")
    (root / "bee" / "over").symlink_to(root / "cat")
    before = len(expected) + 4  # cat's four are in bee too
    (root / "cat" / "over").symlink_to(root / "bee")
    assert len(list_folder(root)) == before + 4  # and bee's in cat, each once


def test_names_that_are_no_utf8_are_listed_printed_and_kept_in_json(root):
    folder = Path(os.fsdecode(os.fsencode(root) + b"/na\xefve"))
    folder.mkdir()
    (path := Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.jpg"))).write_bytes(b"junk")
    images = list_folder(root)
    assert images.classes == ("ant", "bee", "cat", r"na\xefve")
    assert len(images.sha256) == 64
    assert json.loads(json.dumps(str(images.path(12)))) == str(path)
    program = (
        "import os, sys; from pathlib import Path; from vgg.data.listing import *\n"
        "from vgg.launch.processes import print_any_name\n"
        "print_any_name(); images = list_folder(Path(sys.argv[1])); print(images.path(12), images.classes)\n"
        "refuse_unreadable(images, [12], skip=True)"
    )
    for encoding in ("utf-8", "ascii"):
        done = python(program, str(root), PYTHONIOENCODING=encoding)
        assert done.returncode == 0
        assert done.stdout.count(r"caf\udce9.jpg") == 2


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (map(str, range(12)), [str(number) for number in range(12)]),
        (["10", "9", "09", "1"], ["1", "09", "9", "10"]),
        (["10", "9", "9a"], ["10", "9", "9a"]),
        (["10", "9", "²"], ["10", "9", "²"]),
    ],
)
def test_class_names_that_are_whole_numbers_are_in_the_order_of_numbers(names, order, tmp_path):
    names = list(names)
    assert in_class_order(names) == order
    for name in names:
        (tmp_path / name).mkdir()
        noise(0).save(tmp_path / name / "0.png")
    images = list_folder(tmp_path)
    assert images.classes == tuple(order)
    assert images.files == tuple(f"{name}/0.png" for name in order)


def folders(*names: str) -> Listing:
    return Listing(Path("/photos"), names, (), (), ())


def test_it_is_said_how_a_published_nets_classes_were_matched_or_refused():
    def match(classes: tuple[str, ...], *names: str) -> str:
        return weights.published_match("torchvision/A", classes, folders(*names))

    words, synsets = pretrained.class_names(1000), [f"n{number:08d}" for number in range(1000)]
    assert "ImageNet's synset ids in order, n00000000 … n00000999" in match(words, *synsets)
    assert "by their numbers for the class folders, 0000 … 0999" in match(words, *(f"{n:04d}" for n in range(1000)))
    assert "names no classes: its outputs 0 … 1 are taken for the class folders, ant … bee" in match(
        ("0", "1"), "ant", "bee"
    )
    assert "by their numbers for the class folders, 0 … 1" in match(("0", "1"), "0", "1")
    assert "have the same names, tench … toilet tissue" in match(words, *words)
    for names in (map(str, range(1, 1001)), sorted(words, reverse=True)):  # the devkit's ids; another order
        with pytest.raises(UserError, match="tells tench … toilet tissue apart, the class folders"):
            match(words, *names)
    with pytest.raises(UserError, match="has 2 classes and cannot be scored on the 3"):
        match(("0", "1"), "0", "1", "2")


def test_a_single_class_is_one_line_that_says_where_class_folders_belong(tmp_path):
    for split in ("train", "val"):
        (tmp_path / split / "images").mkdir(parents=True)
        for number in range(8):
            noise(number).save(tmp_path / split / "images" / f"{number}.png")
    cfg = composed(*TINY, f"data.root={tmp_path}")
    with pytest.raises(UserError, match=r"single class, images.* a level deeper, in .*images, move them up") as refused:
        training_fit.parts(cfg)
    assert "\n" not in str(refused.value)


# Sizes and shapes of pictures.


def png(image: Image.Image, **how: object) -> bytes:
    image.save(file := io.BytesIO(), "PNG", **how)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["zTXt", "tEXt", "iTXt", "iCCP"])
def test_a_png_is_read_whatever_the_size_of_its_texts(kind):
    info, how = PngImagePlugin.PngInfo(), {}
    if kind == "iCCP":
        how = {"icc_profile": bytes(2_000_000)}
    elif kind == "iTXt":
        info.add_itxt("comment", "a" * 2_000_000, zip=True)
    else:
        info.add_text("comment", "a" * 2_000_000, zip=kind == "zTXt")
    data = png(noise(0), pnginfo=info, **how)
    assert kind.encode() in data
    assert np.array_equal(Picture(data).pixels(), np.asarray(noise(0)))
    with pytest.raises(UNREADABLE):
        Picture(data[:1000])  # only the texts' start


def test_a_picture_longer_than_the_bound_is_named_with_its_remedy_and_one_at_it_is_read(tmp_path):
    for width, height in ((2, 2 * encoded_image.LONGEST), (2 * encoded_image.LONGEST, 2)):
        assert Picture(png(Image.new("RGB", (width, height)))).size == (width, height)
    for form in ("PNG", "JPEG"):
        (tmp_path / "ant").mkdir(exist_ok=True)
        Image.new("RGB", (1, 20_000)).save(tmp_path / "ant" / f"{form}.x", form)
    images = list_folder(tmp_path)
    assert scoring.sizes(images, quiet=True) == [None, None]
    for index in (0, 1):
        assert "1 x 20000 pixels, more than 32 times as long as wide: cut it" in why_unreadable(images, index)


def test_batches_of_long_images_have_no_more_pixels_than_those_of_ordinary_ones():
    sizes = [(100, 100 * ratio) for ratio in (1, 2, 3, 32) for _ in range(5)]
    found_batches = scoring.batches(sizes, 64, 4)
    assert sorted(index for batch in found_batches for index in batch) == list(range(20))
    assert max(len(batch) * sizes[batch[0]][1] / 100 for batch in found_batches if sizes[batch[0]][1] < 3200) <= 8
    assert {len(batch) for batch in found_batches if sizes[batch[0]][1] == 3200} == {1}


def test_a_huge_jpeg_is_decoded_in_part_up_to_a_bound(monkeypatch):
    blocks = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)  # of 16 x 16 pixels, as JPEG's are
    Image.fromarray(blocks).resize((96, 64), Image.Resampling.NEAREST).save(file := io.BytesIO(), "JPEG", quality=100)
    data = file.getvalue()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    monkeypatch.setattr(encoded_image, "MOST_PIXELS", 96 * 64)
    picture = Picture(data)
    assert (picture.size, picture.pixels().shape, picture.pixels(20).shape) == ((96, 64), (32, 48, 3), (16, 24, 3))
    assert abs(picture.pixels() - blocks.repeat(8, 0).repeat(8, 1).astype(float)).max() < 5
    monkeypatch.setattr(encoded_image, "MOST_PIXELS", 96 * 64 - 1)
    with pytest.raises(Image.DecompressionBombError):
        Picture(data)


# Shards and archives.


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("data", "{split}-{part:05d}-of-00003-1359597a978bc4f{part}.parquet"),
        ("default", "{split}-{part:05d}-of-00003.parquet"),
        ("default/{split}", "{part:04d}.parquet"),
        ("{split}", "{split}-{part:05d}-of-00003-1359597a978bc4fa.parquet"),
        (".", "imagenet-{split}-{part:05d}.parquet"),
    ],
)
def test_parquet_shards_are_read_under_the_names_that_the_hub_gives_them(
    folder, name, ilsvrc, ilsvrc_folders, tmp_path
):
    for split, contents in ilsvrc.items():
        write_parquet(tmp_path, split, contents)
        full = "validation" if split == "val" else split
        for part in range(3):
            path = tmp_path / folder.format(split=full) / name.format(split=full, part=part)
            path.parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "data" / f"{full}-{part:05d}-of-00003.parquet").rename(path)
    for split, images in ilsvrc_folders.items():
        assert found(tmp_path, split).images.sha256 == images.sha256


def shard(path: Path, *members: tuple[str, bytes]) -> None:
    tarred(path, dict(members))


def test_webdataset_keys_with_dots_are_samples(tmp_path):
    a, b, c, part = (jpeg(number) for number in range(4))
    shard(
        tmp_path / "imagenet-train-0000.tar",
        *(("n01440764_1.v2.jpg", a), ("n01440764_1.v2.cls", b"1")),  # with a label of its own
        *(("b.jpg", b), ("b.cls", b"0"), ("b.seg.png", part), ("b.left.jpg", part)),  # parts of the sample b
        *(("c.x.jpeg", c), ("c.cls", b"1")),  # the only image of its key
        *(("d.v1.jpg", a), ("d.v1.json", b'{"label": 0}'), ("d.v2.jpg", b), ("d.v2.cls", b"2")),
    )
    images = found(tmp_path, "train").images
    labels = {file.partition("-")[2] or file: label for file, label in zip(images.files, images.labels, strict=True)}
    assert labels == {"0001/n01440764_1.JPEG": 1, "b": 0, "c.x": 1, "d.v1": 0, "d.v2": 2}
    assert {images.read(index) for index in range(len(images))} == {a, b, c}


def test_of_two_images_without_labels_of_their_own_none_is_taken(tmp_path):
    shard(tmp_path / "imagenet-train-0000.tar", ("a.l.jpg", jpeg(0)), ("a.r.jpg", jpeg(1)), ("a.cls", b"0"))
    with pytest.raises(UserError, match="holds 2 images a"):
        found(tmp_path, "train")


def test_labelled_samples_without_an_image_are_named(tmp_path, capsys):
    shard(
        tmp_path / "imagenet-train-0000.tar", ("a.jpg", jpeg(0)), ("a.cls", b"0"), ("b.svg", b"<svg/>"), ("b.cls", b"1")
    )
    assert len(found(tmp_path, "train").images) == 1
    assert "1 samples have no JPEG, PNG, WebP, BMP or TIFF image: b" in capsys.readouterr().out


# Checkpoints.


def test_a_nets_tensors_are_found_in_checkpoints_as_people_have_them(tmp_path):
    state = {"features.0.weight": torch.ones(2, 3), "classifier.6.bias": torch.zeros(2)}
    path = tmp_path / "best.pth.tar"
    for prefix in ("", "module.", "model.", "_orig_mod.", "module._orig_mod.", "net."):
        named = {prefix + key: value for key, value in state.items()}
        for content in (
            named,
            {"epoch": 3, "state_dict": named, "optimizer": {"state": {}}},
            {"model_state_dict": named},
            {"model": named, "best": 0.5},
        ):
            torch.save(content, path)
            assert list(pretrained.net_tensors(path)) == list(state)
    mixed = {"module.a": torch.ones(1), "b": torch.ones(1)}
    torch.save(mixed, path)
    assert list(pretrained.net_tensors(path)) == list(mixed)


def test_other_files_in_their_place_are_named_for_what_they_are(tmp_path):
    path = tmp_path / "x.pth"
    for content, said in (
        ({"state_dict": {"conv1_1.weight": torch.ones(1)}, "classes": ["a"]}, "no classifier.6.bias, but conv1_1"),
        ({"epoch": 1, "loss": 0.5}, "holds no net's tensors, but epoch, loss"),
        (torch.nn.Linear(1, 1), "net.state_dict"),
    ):
        torch.save(content, path)
        with pytest.raises(UserError, match=said) as refused:
            pretrained.read("torchvision", "A", str(path))
        assert "\n" not in str(refused.value)
    for content in (b"", b"junk", b"PK\x03\x04 junk", bytes(100)):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"x\.pth (is damaged|holds no)"):
            pretrained.read("torchvision", "A", str(path))
        path.with_suffix(".safetensors").write_bytes(content)
        with pytest.raises(UserError, match="no safetensors file"):
            pretrained.net_tensors(path.with_suffix(".safetensors"))


# Settings and the environment.


def test_a_home_folder_and_variables_are_expanded_in_every_path_that_is_a_setting(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DISK", "/disk")
    for key in paths.SETTINGS:
        named = ["data=folder", *([] if key == "data.root" else ["data.root=/photos"]), f"{key}=~/x"]
        cfg = composed(*paths.quoted(named), evaluate=True)
        value = cfg
        for part in key.split("."):
            value = getattr(value, part)
        assert value == f"{tmp_path}/x", key
    assert paths.quoted(["data.root=~/a,/b,~/c", "+data.root='~/a,b'", "tag=~x"]) == [
        'data.root="~/a",/b,"~/c"', "+data.root='~/a,b'", "tag=~x"
    ]  # fmt: skip
    assert composed("data=folder", "data.root=${oc.env:DISK}/y").data.root == "/disk/y"
    assert composed("data=folder", "data.root='$DISK/z'").data.name == "z"
    for given in ("dirs.runs='$GONE/runs'", "dirs.runs='${oc.env:GONE}'", "dirs.runs='~nobody-here/runs'"):
        with pytest.raises(UserError, match="dirs.runs.*(GONE|home folder)") as refused:
            composed(given)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("variables", "expected"), [({"XDG_CACHE_HOME": "/x"}, "/x/vgg"), ({"XDG_CACHE_HOME": ""}, "/h/.cache/vgg")]
)
def test_the_cache_is_where_the_environment_says(variables, expected, monkeypatch):
    monkeypatch.setenv("HOME", "/h")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert composed().dirs.cache == expected


def started(monkeypatch: pytest.MonkeyPatch, **variables: str) -> dict[str, str]:
    """The environment of the process that run_fresh starts."""
    given = {}

    def popen(command: list[str], env: dict[str, str], pass_fds: tuple[int, ...]) -> SimpleNamespace:
        given.update(env)
        return SimpleNamespace(wait=lambda: 0)

    monkeypatch.setattr(processes.subprocess, "Popen", popen)
    for name in (*processes.RANK_VARIABLES, "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert processes.run_fresh("fit", Path("run"), composed().trainer) == 0
    return given


def test_what_a_container_platform_sets_is_no_rank_and_what_torchrun_sets_is(monkeypatch):
    platform = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "host", "PET_NODE_RANK": "1"}
    assert not set(platform) & set(started(monkeypatch, **platform))
    started(monkeypatch, LOCAL_RANK="0", WORLD_SIZE="1")  # torchrun of one process
    for variables in ({"LOCAL_RANK": "0", "WORLD_SIZE": "2"}, {"SLURM_STEP_NUM_TASKS": "2"}):
        with pytest.raises(UserError, match="start this command once, not once a rank"):
            started(monkeypatch, **variables)


def test_without_file_locks_every_command_is_one_line_that_names_wsl(tmp_path):
    program = "import runpy, sys; sys.modules['fcntl'] = None; sys.argv = sys.argv[1:]; {}"
    for call, arguments in (
        ("runpy.run_path(sys.argv[0], run_name='__main__')", [str(REPOSITORY / "train.py")]),
        ("runpy.run_module('vgg', run_name='__main__')", ["vgg", "runs"]),
    ):
        done = python(program.format(call), *arguments, **environment(tmp_path))
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        assert "WSL" in done.stderr


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        torch.cuda.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("MPS backend out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_no_more_memory_is_one_line_that_names_what_needs_less(error):
    trainer = SimpleNamespace(
        strategy=SimpleNamespace(launcher=None, root_device=torch.device("cuda", 0)), world_size=1, is_global_zero=True
    )
    said, remedy = r"^cuda:0 is out of memory: lower trainer.micro_batch$", "lower trainer.micro_batch"
    with pytest.raises(UserError, match=said), ranks.together(trainer, remedy):
        raise error
    with pytest.raises(RuntimeError, match="another"), ranks.together(trainer, remedy):
        raise RuntimeError("another")


# Decoding processes.


class Hanging(torch.utils.data.Dataset):
    """Its second image never comes: its process sleeps, or is stopped as a whole."""

    def __init__(self, stopped: bool):
        self.stopped = stopped

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        while index == 1:
            if self.stopped:
                os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(0.1)
        return index


@pytest.mark.parametrize("stopped", [False, True])
@pytest.mark.parametrize("asked", [False, True])
def test_decoding_processes_that_hang_end_in_one_line(asked, stopped, monkeypatch):
    monkeypatch.setattr(Loader, "LOOK", 0.5)
    monkeypatch.setattr(Loader, "STOPPING", 0.5)
    monkeypatch.setattr(Loader, "PATIENCE", 10_000 if asked else 5)
    loader = Loader(Hanging(stopped), asked_to_stop=lambda: asked, num_workers=1)
    with pytest.raises(UserError, match="has given anything.*trainer.workers=0"):
        list(loader)


def test_a_loader_gives_what_torchs_does(root):
    images = list_folder(root)
    crops = crops_of(images, 256, 256)
    keys = [[(0, 1), (0, 5)], [(1, 2)], [(1, 1)]]
    for workers in (0, 2):
        loader = Loader(crops, batch_sampler=keys, num_workers=workers)
        for _ in range(2):
            assert [len(batch[0]) for batch in loader] == [2, 1, 1]


def test_a_long_tmpdir_hangs_no_decoding_process(tmp_path):
    folder = tmp_path / ("x" * 90)
    folder.mkdir()
    program = (
        "import torch; from vgg.launch.processes import short_temporary_folder\n"
        "from vgg.data.workers import Loader, end_workers\n"
        "short_temporary_folder(); Loader.PATIENCE = 10\n"
        "print(sum(len(batch) for batch in Loader(torch.zeros(6, 3), num_workers=1, batch_size=2))); end_workers()"
    )
    assert python(program, TMPDIR=str(folder)).stdout == "6\n"
