"""The contract every task keeps, whatever its data."""

from __future__ import annotations

import pytest

from mat.experiments.config.plugins import find
from mat.experiments.contract import record
from mat.experiments.contract.task import RULES, Case
from mat.experiments.tasks import TASKS
from tests.contract.task_cases import CASES


def test_every_task_has_a_case() -> None:
    assert {name for name, _, _ in CASES.values()} == set(TASKS)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_task_keeps(case: Case, rule) -> None:
    assert list(rule(case)) == []


@pytest.mark.parametrize("name", TASKS)
def test_settings_are_frozen_and_documented(name: str) -> None:
    assert list(record.broken("task", find("task", name))) == []
