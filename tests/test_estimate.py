import pytest
from conftest import composed

from vgg.commands import evaluate as commands_evaluate
from vgg.commands import train as commands_train
from vgg.core.text import duration
from vgg.data import digits
from vgg.runs import estimate, plan
from vgg.runs.run import Run


def seconds(*overrides):
    cfg = composed(*overrides)
    return estimate.estimated_seconds(plan.planned(cfg), cfg)


def finished(tmp_path, name: str, speed: float, *overrides: str) -> None:
    model = name.rpartition("-")[0]
    run = Run.named(f"digits/{name}", tmp_path)
    run.prepare(composed(f"model={model}", "train_scale=S256", *overrides), None)
    run.update_record(images_per_second=speed)
    run.weights.write_bytes(b"")


def test_a_given_speed_is_net_ds_and_other_nets_need_time_by_their_multiply_adds(tmp_path):
    found = seconds(
        "data=imagenet", "data.root=/x", "ablation=depth", "plan.images_per_second=1000", f"dirs.runs={tmp_path}"
    )
    assert found["imagenet/D-256"] == pytest.approx(74 * (1_281_167 + 50_000 / 3) / 1000)
    assert found["imagenet/A-256"] / found["imagenet/D-256"] == pytest.approx(7.609 / 15.470, rel=1e-3)
    assert found["imagenet/E-256"] / found["imagenet/D-256"] == pytest.approx(19.632 / 15.470, rel=1e-3)


def test_the_speed_of_a_finished_run_is_taken_as_measured_and_scaled_for_other_nets(tmp_path):
    finished(tmp_path, "A-256", 500.0)
    finished(tmp_path, "B-256", 9.0, "data.width=0.25")  # another width says nothing
    finished(tmp_path, "C-256", 9.0, "trainer=ddp", "trainer.devices=8")  # nor do other devices
    found = seconds("model=D", "train_scale=S384", f"dirs.runs={tmp_path}")
    assert set(found) == {"digits/D-256", "digits/D-384"}
    cost = {net: estimate.multiply_adds(composed(f"model={net}")) for net in "AD"}
    data, images = composed().data, digits.SCENES["train"] + digits.SCENES["val"] / 3
    assert found["digits/D-256"] == pytest.approx(data.epochs * images / 500 * cost["D"] / cost["A"])
    assert found["digits/D-384"] == pytest.approx(found["digits/D-256"] / 2)


def test_without_any_speed_there_is_no_estimate_and_the_dry_run_asks_for_one(tmp_path, capsys):
    assert seconds(f"dirs.runs={tmp_path}") is None
    commands_train.train(composed(f"dirs.runs={tmp_path}", "plan.dry_run=true"))
    assert "plan.images_per_second=" in capsys.readouterr().out


def test_the_dry_run_prints_states_times_and_their_sum(tmp_path, capsys):
    finished(tmp_path, "A-256", 500.0)
    commands_train.train(composed("model=D", "train_scale=S256", f"dirs.runs={tmp_path}", "plan.dry_run=true"))
    printed = capsys.readouterr().out
    assert "digits/A-256                 finished\n" in printed
    assert "to train, from digits/A-256" in printed
    assert "at most" in printed
    assert "1 of 2 runs to train" in printed
    assert not (tmp_path / "digits/D-256").exists()


def test_images_of_a_folder_are_counted(scenes):
    cfg = composed("data=folder", f"data.root={scenes}")
    assert (estimate.images(cfg, "train"), estimate.images(cfg, "val")) == (84, 37)


def test_on_imagenet_the_dry_run_estimates_h100s_from_counted_operations(tmp_path, capsys):
    options = ("data=imagenet", "data.root=/x", f"dirs.runs={tmp_path}")
    commands_train.train(composed(*options, "ablation=paper", "plan.dry_run=true"))
    printed = capsys.readouterr().out
    (line,) = [line for line in printed.splitlines() if line.startswith("  imagenet/D-256 ")]
    seconds = 6 * 15_470_264_320 * 74 * 1_281_167 / (0.3 * 989e12)
    assert line.endswith(f"{duration(seconds):>10} {duration(seconds / 7.2):>10}")
    assert "14 of 14 runs to train" in printed
    assert "Not measured" in printed
    assert "trainer.precision=32-true takes longer" in printed


def test_a_dry_run_of_evaluations_counts_each_shared_array_of_posteriors_once(tmp_path):
    options = ("data=imagenet", "data.root=/x", f"dirs.runs={tmp_path}", "plan.dry_run=true")
    found = commands_evaluate.needed_disk(composed(*options, "ablation=table5", evaluate=True))
    assert found == "12 arrays of posteriors of 200.0 MB: 2.40 GB in the cache"  # D and E, two views, three scales
    single = commands_evaluate.needed_disk(composed(*options, "model=D", "eval=table3", evaluate=True))
    assert single.startswith("1 arrays of posteriors")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((40, "40 s"), (89, "89 s"), (720, "12 min"), (1.49 * 3600, "89 min"), (1.5 * 3600, "1.5 h")),
        *((5.3 * 3600, "5.3 h"), (1.49 * 86400, "35.8 h"), (1.5 * 86400, "1.5 days"), (17.2 * 86400, "17.2 days")),
    ],
)
def test_durations_are_said_as_a_person_does(value, text):
    assert duration(value) == text
