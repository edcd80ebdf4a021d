"""The contract every task keeps, whatever its data."""

from __future__ import annotations

import pytest

from mat.experiments.config.plugins import find
from mat.experiments.contract import record
from mat.experiments.contract.task import RULES, SIZE, Case
from mat.experiments.tasks import TASKS
from mat.experiments.tasks.base import Task
from tests.contract.task_cases import CASES


def test_every_task_has_a_case() -> None:
    assert {name for name, _, _ in CASES.values()} == set(TASKS)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_task_keeps(case: Case, rule) -> None:
    assert list(rule(case)) == []


def test_an_epoch_uses_each_sample_at_most_once(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the samples that every batch is made of, which only the project's own tasks show."""
    used: list[int] = []
    monkeypatch.setattr(task, "_training_batch", lambda index, *_: used.extend(index.tolist()))
    steps = task.steps_per_epoch(SIZE)
    for step in range(steps):
        task.batch(1, 2, step, SIZE)
    assert len(used) == len(set(used)) == steps * SIZE
    assert set(used) <= set(range(task.sizes["train"]))
    assert task.sizes["train"] - len(used) < SIZE


@pytest.mark.parametrize("name", TASKS)
def test_settings_are_frozen_and_documented(name: str) -> None:
    assert list(record.broken("task", find("task", name))) == []
