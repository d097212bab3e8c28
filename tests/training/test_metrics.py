"""The metrics file survives kills, and its picture is drawn."""

import json

from asr.training.metrics import append, draw_curves, keep_until, read_metrics, standing


def line(step: int) -> dict:
    return {
        "step": step,
        "epoch": step // 10,
        "train_loss": 3.0 / step,
        "valid_loss": 3.5 / step,
        "error_rate": 1.0 / step,
        "valid_phone_error_rate": 1.0 / step,
        "learning_rate": 1e-3,
    }


def test_a_line_cut_by_a_kill_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append(path, line(10))
    with open(path, "a") as handle:
        handle.write('{"step": 20, "ep')
    assert [entry["step"] for entry in read_metrics(path)] == [10]


def test_line_of_an_epoch_not_yet_finished_by_the_checkpoint_is_dropped(tmp_path):
    """A checkpoint at the last step of epoch 2 counts one finished epoch; the kill came after the line, before the next one."""
    path = tmp_path / "metrics.jsonl"
    append(path, line(10))
    append(path, line(20))
    assert [entry["epoch"] for entry in keep_until(path, 1)] == [1]


def test_lines_after_the_checkpoint_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for step in (10, 20, 30):
        append(path, line(step))
    assert [entry["step"] for entry in keep_until(path, 2)] == [10, 20]
    assert [json.loads(text)["step"] for text in path.read_text().splitlines()] == [10, 20]
    assert keep_until(tmp_path / "none.jsonl", 5) == []


def test_picture_is_a_png_of_readable_size(tmp_path):
    draw_curves([line(10), line(20), line(30)], tmp_path / "curves.png", title="t")
    data = (tmp_path / "curves.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    width = int.from_bytes(data[16:20], "big")
    assert width > 1000
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


def test_the_better_epoch_by_error_and_by_loss():
    one, two = {"error_rate": 0.2, "valid_loss": 3.0}, {"error_rate": 0.3, "valid_loss": 1.0}
    assert standing(one, "error") < standing(two, "error")
    assert standing(two, "loss") < standing(one, "loss")
    equal = {"error_rate": 0.2, "valid_loss": 2.0}
    assert standing(equal, "error") < standing(one, "error"), "between equal error rates the loss decides"
