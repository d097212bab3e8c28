"""Checkpoints: verified, never half written, the newest intact one is taken."""

import errno
import os

import pytest
import torch

from asr.errors import ModelError, ResourceError, UsageError
from asr.training.checkpoint import flatten_optimizer, load_newest, locked, restore_optimizer, save_checkpoint


def tensors(value: float) -> dict:
    return {"model": {"w": torch.full((3, 2), value)}, "optimizer": {"0/step": torch.tensor(value)}, "average": {}}


def test_round_trip_keeps_the_newest(tmp_path):
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, tensors(step), {"epoch": step}, keep=2)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-0000002", "step-0000003"]
    state, found = load_newest(tmp_path)
    assert state["step"] == 3
    assert state["epoch"] == 3
    assert torch.equal(found["model"]["w"], torch.full((3, 2), 3.0))


def test_nothing_to_resume(tmp_path):
    assert load_newest(tmp_path) is None


@pytest.mark.parametrize("name", ["model.safetensors", "state.json", "optimizer.safetensors", "checksums.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damaged_newest_is_set_aside_and_named(tmp_path, name, damage):
    for step in (1, 2):
        save_checkpoint(tmp_path, step, tensors(step), {}, keep=2)
    path = tmp_path / "checkpoints" / "step-0000002" / name
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
    elif damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    else:
        path.unlink()
    told = []
    state, _ = load_newest(tmp_path, told.append)
    assert state["step"] == 1
    assert any(name.split(".")[0] in line and "WARNING" in line for line in told)
    assert (tmp_path / "checkpoints" / "step-0000002.corrupt").is_dir()


def test_only_damaged_ones_left_is_an_error(tmp_path):
    save_checkpoint(tmp_path, 1, tensors(1), {}, keep=2)
    (tmp_path / "checkpoints" / "step-0000001" / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="no intact checkpoint"):
        load_newest(tmp_path, lambda text: None)


def test_rest_of_a_killed_save_is_removed(tmp_path):
    save_checkpoint(tmp_path, 1, tensors(1), {}, keep=2)
    litter = tmp_path / "checkpoints" / "step-0000002.tmp-123"
    litter.mkdir()
    (litter / "model.safetensors").write_bytes(b"half")
    told = []
    state, _ = load_newest(tmp_path, told.append)
    assert state["step"] == 1
    assert not litter.exists()
    assert "cut off" in told[0]


@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "no space left"), (errno.EIO, "could not be written")])
@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_failed_save_leaves_the_one_before_and_no_litter(tmp_path, monkeypatch, number, words, call):
    save_checkpoint(tmp_path, 1, tensors(1), {}, keep=2)

    def fail(*_args, **_kwargs):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        with pytest.raises(ResourceError, match=words):
            save_checkpoint(tmp_path, 2, tensors(2), {}, keep=2)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-0000001"]
    assert load_newest(tmp_path)[0]["step"] == 1


def test_second_process_is_refused(tmp_path):
    with locked(tmp_path), pytest.raises(UsageError, match=f"process {os.getpid()}"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_optimizer_state_survives():
    def steps(model, optimizer, count):
        for _ in range(count):
            optimizer.zero_grad()
            model(torch.ones(1, 3)).sum().backward()
            optimizer.step()

    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    steps(model, optimizer, 3)
    twin = torch.nn.Linear(3, 2)
    twin.load_state_dict(model.state_dict())
    other = torch.optim.AdamW(twin.parameters(), lr=0.1, fused=True)
    restore_optimizer(other, {key: value.clone() for key, value in flatten_optimizer(optimizer).items()})
    steps(model, optimizer, 2)
    steps(twin, other, 2)
    assert torch.equal(model.weight, twin.weight)
