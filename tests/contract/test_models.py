"""The contract every model family keeps, on every case of the tests."""

import pytest

from mat.experiments.config.plugins import find
from mat.experiments.contract import record
from mat.experiments.contract.model import RULES, Case, broken
from mat.experiments.models import MODELS
from tests.cases import CASES


@pytest.mark.parametrize("name", CASES)
def test_every_model_keeps_the_contract(name):
    made = CASES[name]()
    assert list(broken(Case(made.family, made.settings, made.signature))) == []


def test_every_family_has_a_case():
    assert {CASES[name]().family.__name__ for name in CASES} == set(MODELS.values())
    assert len(RULES) == 5


@pytest.mark.parametrize("name", MODELS)
def test_settings_are_frozen_and_documented(name):
    assert list(record.broken("model", find("model", name))) == []
