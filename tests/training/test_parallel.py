"""Two processes train as one does with twice the batch."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from xatmo import errors
from xatmo.training.logs import learning_curve
from xatmo.training.parallel import SharedBatchNorm2d, SharedStatistics
from xatmo.training.run import train


def _weights(folder):
    file = folder / "checkpoints" / "last.ckpt"
    return torch.load(file, weights_only=True)["state_dict"]


@pytest.mark.slow
@pytest.mark.parametrize("order", ["random", "stream"])
def test_two_processes_do_what_one_does_with_twice_the_batch(recipe, tmp_path, order):
    path = recipe(2)
    text = path.read_text()
    text = text.replace("n_lags = 3", f'n_lags = 3\norder = "{order}"')
    path.write_text(text)
    two = train(
        path, out=tmp_path / "two", devices=2, accelerator="cpu", progress=False
    )
    path.write_text(text.replace("batch_size = 8", "batch_size = 16"))
    one = train(path, out=tmp_path / "one", accelerator="cpu", progress=False)
    for mine, other in zip(learning_curve(two), learning_curve(one), strict=True):
        for key in ("train_loss", "train_ce", "val_ce", "train_accuracy", "lr"):
            assert mine[key] == pytest.approx(other[key], rel=1e-5), key
    ours, theirs = _weights(two), _weights(one)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-5, atol=1e-5)


def _run_part(rank, address, x, weight, results):
    store = dist.TCPStore(*address, 2, rank == 0, timedelta(seconds=60))
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    torch.manual_seed(0)
    norm = SharedStatistics().apply(nn.BatchNorm2d(3))
    assert type(norm) is SharedBatchNorm2d
    mine = x.chunk(2)[rank].clone().requires_grad_()
    y = norm(mine)
    (y * weight.chunk(2)[rank]).sum().backward()
    results[rank] = [
        t.detach().clone()
        for t in (y, mine.grad, norm.weight.grad, norm.running_mean, norm.running_var)
    ]
    norm.eval()
    assert torch.isfinite(norm(mine)).all()
    assert type(SharedStatistics().revert(norm)) is nn.BatchNorm2d
    dist.destroy_process_group()


def test_shared_batch_norm_is_that_of_the_whole_batch():
    torch.manual_seed(1)
    x = 3 * torch.randn(8, 3, 4, 5) + 7
    weight = torch.randn_like(x)
    norm = nn.BatchNorm2d(3)
    whole = x.clone().requires_grad_()
    y = norm(whole)
    (y * weight).sum().backward()
    with mp.Manager() as manager:
        results = manager.dict()
        address = ("127.0.0.1", 20_000 + os.getpid() % 20_000)
        mp.spawn(_run_part, (address, x, weight, results), nprocs=2)
        parts = [results[0], results[1]]
    close = torch.testing.assert_close
    close(torch.cat([p[0] for p in parts]), y.detach(), rtol=1e-5, atol=1e-6)
    close(torch.cat([p[1] for p in parts]), whole.grad, rtol=1e-4, atol=1e-5)
    close(parts[0][2] + parts[1][2], norm.weight.grad, rtol=1e-5, atol=1e-5)
    for part in parts:
        close(part[3], norm.running_mean)
        close(part[4], norm.running_var)


def test_alone_it_is_an_ordinary_one():
    torch.manual_seed(2)
    x = torch.randn(4, 3, 5, 5)
    plain, shared = nn.BatchNorm2d(3), SharedStatistics().apply(nn.BatchNorm2d(3))
    torch.testing.assert_close(shared(x), plain(x))


@pytest.mark.parametrize(
    ("devices", "accelerator", "said"),
    [
        (0, "auto", "needs a device"),
        (999, "gpu", "not 999 GPUs"),
        (1, "tpu", "no accelerator 'tpu'"),
    ],
)
def test_refuses_devices_that_are_not_there(
    recipe, tmp_path, devices, accelerator, said
):
    with pytest.raises(errors.OptionError, match=rf"(?s){said}.*--accelerator cpu"):
        train(recipe(), out=tmp_path, devices=devices, accelerator=accelerator)
