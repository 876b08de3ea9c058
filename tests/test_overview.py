import pytest
from conftest import composed

from vgg.core.errors import UserError
from vgg.core.text import duration
from vgg.runs.run import Run
from vgg.runs.status import epoch_lines, rendered


def prepared(folder, model: str, **record) -> Run:
    run = Run.named(f"digits/{model}-256", folder)
    run.prepare(composed(f"model={model}", "train_scale=S256"), None)
    run.update_record(**record)
    return run


def curves(run: Run, version: int, *lines: str) -> None:
    folder = run.folder / "csv" / f"version_{version}"
    folder.mkdir(parents=True)
    header = "epoch,images_per_second,lr,step,train/loss,val/top1_error,val/top5_error"
    (folder / "metrics.csv").write_text("\n".join([header, *lines]) + "\n")


def line_of(name: str, text: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(name))


def test_every_state_is_told(tmp_path):
    prepared(tmp_path, "A", validation={"top1_error": 21.34, "top5_error": 1.5}).weights.write_bytes(b"")
    prepared(tmp_path, "B")
    failed = prepared(tmp_path, "C", error="the loss is nan at step 3\nmore")
    (failed.folder / "last.ckpt").write_bytes(b"")
    stopped = prepared(tmp_path, "D")
    (stopped.folder / "last.ckpt").write_bytes(b"")
    curves(stopped, 0, "0,100,0.005,99,2.3,90.0,50.0", "1,110,0.005,199,2.1,80.0,40.0")
    training = prepared(tmp_path, "E")
    curves(training, 0, "0,100,0.005,99,2.3,90.0,50.0")
    training.update_record(plan={"number": 3, "runs": 14, "seconds_after": 7200.0})
    with training.lock():
        text = rendered(tmp_path)
    assert line_of("digits/A-256", text).split()[1:6] == ["finished", "21.3", "%", "1.5", "%"]
    assert "planned" in line_of("digits/B-256", text)
    assert "failed: the loss is nan at step 3  " in line_of("digits/C-256", text)
    epochs = stopped.config().epochs
    assert f"stopped in epoch 3 of {epochs}" in line_of("digits/D-256", text)
    assert " 80.0 %" in line_of("digits/D-256", text)
    left = (epochs - 1) * 100 * stopped.config().data.batch / 100  # of 100 steps at 100 images a second
    plan = f"run 3 of 14, about {duration(left + 7200)} left"
    assert f"epoch 2 of {epochs}, at most {duration(left)} left; {plan}" in line_of("digits/E-256", text)


def test_a_resumed_run_has_one_curve(tmp_path):
    run = prepared(tmp_path, "A")
    curves(run, 0, "0,100,0.005,99,2.3,90.0,50.0", "1,100,0.005,199,2.2,85.0,45.0")
    curves(run, 1, "1,100,0.005,199,2.1,80.0,40.0", "2,100,0.005,299,2.0,70.0,30.0")
    curves(run, 10, "3,100,0.005,399,1.9,60.0,20.0")
    assert [(line["epoch"], line["val/top1_error"]) for line in epoch_lines(run)] == [
        (0, 90),
        (1, 80),
        (2, 70),
        (3, 60),
    ]


def test_no_run_is_said(tmp_path):
    with pytest.raises(UserError, match="no run in"):
        rendered(tmp_path)
