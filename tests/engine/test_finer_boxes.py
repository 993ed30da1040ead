"""Boxes blended on a finer grid, band by band; gaps; a toy in place of a network."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from xatmo import errors
from xatmo.blocks import block_mean
from xatmo.engine import Call, Domain, FinerBoxes, Windows, finer_boxes, worker
from xatmo.engine.boxes import spread_of
from xatmo.engine.tiles import cover, places_of, refined, tiles_of

F, E = 2, 3


class _Toy:
    """Says what a test wants of each box, (B, E, C, 1, F Y, F X)."""

    device = "cpu"

    def __init__(self):
        self.says, self.boxes = _noise, 0

    def batch_limit(self, method, core, size):
        return min(size, 5)

    def under_way(self, points):
        return 1

    def submit(self, gather, points):
        return worker.Later(lambda: self.forward(*gather()))

    def forward(self, method, batch, kwargs):
        assert method == "refine"
        assert kwargs["frames"] == 1
        self.boxes += len(batch)
        return np.stack(
            [self.says(x, at) for x, at in zip(batch, _places(kwargs), strict=True)]
        )


def _places(kwargs):
    return zip(kwargs["latitude"][:, 0], kwargs["longitude"][:, 0], strict=True)


def _noise(x, at):
    """Members that belong to the box: another box says something else of a point.

    Not so much that their deviations cancel, since spread is restored only so far.
    """
    seed = np.asarray(at, np.float32).view(np.uint32)
    channels, _, rows, columns = x.shape
    shape = (E, channels, 1, F * rows, F * columns)
    own = np.arange(E, dtype=np.float32)[:, None, None, None, None]
    return own + 0.2 * np.random.default_rng(seed).standard_normal(shape, np.float32)


def _repeated(x, at):
    """The coarse values, and the number of the member."""
    fine = x[None, :, -1:].repeat(F, -2).repeat(F, -1)
    return fine + np.arange(E, dtype=np.float32)[:, None, None, None, None]


@pytest.fixture
def toy(monkeypatch):
    toy = _Toy()

    @contextmanager
    def running(domain):
        yield toy

    monkeypatch.setattr(finer_boxes, "running", running)
    return toy


def _job(shape=(20, 24), channels=1, periodic=False, missing="propagate", **changes):
    domain = Domain(
        call=Call(None, "", names=("u", "v")[:channels], missing=missing),
        box=(4, 8, 8),
        token=(4, 4),
        members=E,
        latitude=60.0 - np.arange(shape[0]),
        longitude=np.arange(shape[1]) * (360.0 / shape[1] if periodic else 1.0),
        spacing=1.0,
        periodic=periodic,
        present=(("u", tuple(range(channels))),),
    )
    wanted = tuple(range(channels))
    known = {"factor": F, "members": E, "wanted": wanted, "conserve": False}
    return FinerBoxes(domain, **known | changes)


def _run(job, windows):
    """Windows (N, C, T, ny, nx) as pieces of a series that share no time."""
    n, _, times, *_ = windows.shape
    series = windows.swapaxes(1, 2).reshape(-1, windows.shape[1], *windows.shape[3:])
    index = np.arange(n * times).reshape(n, times)
    out = np.empty((n, *job.shape), np.float32)
    job(Windows([series], index), np.zeros((n, times, 3)), out)
    return out


def _windows(job, count=2):
    shape = (count, job.domain.channels, 4, *job.domain.shape)
    return np.random.default_rng(0).standard_normal(shape, np.float32)


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("shape", [(20, 24), (21, 25), (5, 24), (20, 8), (8, 3)])
def test_bands_are_parts_of_a_blend_of_the_whole(toy, shape, periodic):
    job = _job(shape, periodic=periodic)
    x = _windows(job)
    rows, columns = job.domain.cover
    fine = [refined(c, F) for c in (rows, columns)]
    mean, spread = np.zeros((2, F * shape[0], F * shape[1]))
    for tile in tiles_of(rows, columns):
        y, lon = rows.points[tile.row][0], columns.points[tile.column][0]
        at = (job.domain.latitude[y], job.domain.longitude[lon % shape[1]])
        part = _noise(np.zeros((1, 4, 8, 8)), np.float32(at))[:, 0, 0]
        bell = np.outer(fine[0].weights[tile.row], fine[1].weights[tile.column])
        for place, own in places_of(*fine, tile):
            mean[place] += (bell * part.mean(0))[own]
            spread[place] += (bell * spread_of(part))[own]
    for got in _run(job, x)[:, :, 0]:
        np.testing.assert_allclose(got.mean(0), mean, atol=1e-5)
        # Where neighbours agree on little the spread is restored only so far.
        np.testing.assert_allclose(got.std(0), spread, rtol=1e-3)


def test_boxes_leave_no_seams(toy):
    """Of a smooth field interpolated box by box, blended."""
    toy.says = lambda x, at: _smooth(x)
    job = _job((32, 40), periodic=True)
    angles = [2 * np.pi * (np.arange(F * n) + 0.5) / (F * n) for n in (32, 40)]
    truth = np.cos(angles[0])[:, None] * np.cos(angles[1])
    x = np.broadcast_to(block_mean(truth, F), (1, 1, 4, 32, 40)).astype(np.float32)
    got = _run(job, x)[0, 0, 0]
    assert np.abs(got - truth)[F:-F].max() < 0.02


def test_what_boxes_do_not_agree_on_goes_over_smoothly(toy):
    """Each says where it begins, in steps of half a box: eight fine points."""

    def begin(x, at):
        return np.full((E, 1, 1, 8 * F, 8 * F), at[1] / 4, np.float32)

    toy.says = begin
    job = _job((8, 40))
    got = _run(job, _windows(job, 1))[0, 0, 0, 0]
    steps = np.diff(got)
    assert steps.min() > -1e-6
    assert steps.max() < 0.25
    assert (got[0], got[-1]) == (0, 8)


def _smooth(x):
    import torch

    from xatmo.nets.resample import interpolate

    fine = interpolate(torch.from_numpy(x[:, -1:]), F, "bicubic").numpy()
    return fine[None].repeat(E, 0)


def test_weights_of_finer_boxes_add_up():
    for periodic in (False, True):
        fine = refined(cover(21, 8, 4, periodic), 3)
        total = np.zeros(63)
        for number, weights in enumerate(fine.weights):
            for place, own in fine.parts(number):
                total[place] += weights[own]
        np.testing.assert_allclose(total, 1.0, rtol=1e-6)


def test_means_of_cells_and_rows_beyond_the_poles(toy):
    job = _job(channels=2, conserve=True, trim=(1, 1), members=2)
    x = _windows(job)
    got = _run(job, x)
    assert got.shape == (2, 2, 2, 38, 48)
    last = x[:, None, :, -1].repeat(2, 1)
    inner = got[..., 1:-1, :]
    np.testing.assert_allclose(block_mean(inner, F), last[..., 1:-1, :], atol=1e-6)
    for row in (0, -1):
        cap = got[..., row, :].reshape(2, 2, 2, 24, F).mean(-1)
        np.testing.assert_allclose(cap, last[..., row, :], atol=1e-6)


def test_the_first_members_are_the_same_whatever_their_number(toy):
    x = _windows(_job())
    all_of_them, first = (_run(_job(members=n), x) for n in (E, 1))
    np.testing.assert_array_equal(first, all_of_them[:, :1])


@pytest.mark.parametrize("conserve", [False, True])
def test_a_cell_that_is_missing_stays_so_and_harms_no_other(toy, conserve):
    toy.says = lambda x, at: _repeated(np.nan_to_num(x), at)
    job = _job(channels=2, conserve=conserve)
    x = _windows(job)
    whole = _run(job, x)
    holed = x.copy()
    holed[1, 0, -1, 3, 5] = np.nan
    holed[1, :, 0] = np.nan  # earlier times may be missing
    got = _run(job, holed)
    gone = np.zeros(got.shape, bool)
    gone[1, :, 0, 6:8, 10:12] = True
    np.testing.assert_array_equal(np.isnan(got), gone)
    np.testing.assert_allclose(got[~gone], whole[~gone], atol=1e-6)


def test_boxes_of_which_nothing_is_wanted_are_left_out(toy):
    toy.says = lambda x, at: _repeated(np.nan_to_num(x), at)
    job = _job((40, 40))
    x = _windows(job, count=1)
    whole, boxes = _run(job, x), toy.boxes
    part = x.copy()
    part[..., -1, :, :] = np.nan
    for corner in (np.s_[:3, :3], np.s_[-3:, -3:]):
        part[0, 0, -1][corner] = x[0, 0, -1][corner]
    toy.boxes = 0
    got = _run(job, part)
    assert toy.boxes < boxes / 4
    for corner in (np.s_[..., :6, :6], np.s_[..., -6:, -6:]):
        np.testing.assert_allclose(got[corner], whole[corner], atol=1e-6)
    assert np.isfinite(got).sum() == 2 * E * 36
    part[..., -1, :, :] = np.nan
    toy.boxes = 0
    assert np.isnan(_run(job, part)).all()
    assert toy.boxes == 0


def test_gaps_are_refused_before_anything_runs(toy):
    job = _job(channels=2, missing="raise")
    x = _windows(job, count=3)
    x[2, 1, -1, 0, 0] = np.nan
    with pytest.raises(errors.MissingValuesError, match=r"(?s)in v:.*1 of 3 fields"):
        _run(job, x)
    assert toy.boxes == 0
    only_read = replace(job, wanted=(0,))
    assert np.isfinite(_run(only_read, x)).all()
    x[2, 1, -1, 0, 0] = np.inf
    with pytest.raises(errors.MissingValuesError, match="no data"):
        _run(only_read, x)
