"""The page on scale says what its rates say, and its model of a scheduler is right."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.scale import PAGE, TABLES, filled, job, tasks
from benchmarks.scheduler import RATES, expected, simulate


@pytest.fixture(scope="module")
def rates():
    return json.loads(RATES.read_text())


def test_the_tables_of_the_page_are_computed(rates):
    page = PAGE.read_text(encoding="utf-8")
    # The simulation of a million tasks is checked by itself.
    made = {name: TABLES[name](rates) for name in ("job", "money", "tasks")}
    assert filled(page, made) == page
    assert "| 1 | 1,000,000 |" in page
    assert all(f"<!-- table: {name} -->" in page for name in TABLES)


def test_other_rates_are_other_tables(rates):
    twice = json.loads(json.dumps(rates))
    twice["verbs"]["embed"]["tasks_per_chunk"] *= 2
    assert tasks(twice) != tasks(rates)
    assert job(twice) == job(rates)


@pytest.mark.parametrize("workers", [1, 8, 64, 512])
@pytest.mark.parametrize("mean", [0.01, 0.3])
def test_the_model_agrees_with_what_endless_tasks_give(workers, mean):
    service = 1e-3
    durations = np.full(40_000, mean)
    found = simulate(durations, workers, service)
    assert found == pytest.approx(expected(mean, workers, service), rel=0.05)


def test_the_model_keeps_its_order():
    # Two workers, a scheduler that takes a second: they begin at 1 and 2, and the third
    # task waits for the first worker.
    assert simulate(np.array([10.0, 10.0, 10.0]), 2, 1.0) == pytest.approx(30 / 44)
    # More workers than tasks leave some of them idle.
    assert simulate(np.array([10.0]), 4, 0.0) == pytest.approx(0.25)
