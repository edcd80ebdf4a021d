"""The contract that every method keeps."""

import pytest
from hypothesis import given, settings

from mat.experiments.config.plugins import find
from mat.experiments.contract.method import broken, check_method
from mat.experiments.contract.worlds import World
from mat.methods import METHODS
from mat.methods.base import Matched
from mat.methods.lisa import Lisa
from tests.contexts import SETTINGS, method, worlds

every_method = pytest.mark.parametrize(("name", "options"), SETTINGS, ids=str)


def test_every_method_is_in_the_suite():
    assert {name for name, _ in SETTINGS} == set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_file_is_its_card(name, monkeypatch):
    module = find("method", name)
    monkeypatch.setattr(module, "EXAMPLES", [options for other, options in SETTINGS if other == name], raising=False)
    assert check_method(module) == []
    assert module.__doc__.count("Claim:") == module.__doc__.count("Source:") == 1


@every_method
@settings(max_examples=6)
@given(world=worlds())
def test_contract(name: str, options: dict, world: World):
    """A method is a frozen, pure choice of a non-empty subset that does not depend on when it is asked, on the names
    of the modules or on any random state but its own."""
    asked = method(name, options)
    assert list(broken(asked, world)) == []
    if isinstance(asked, Matched) and not isinstance(asked, Lisa):
        for t in range(len(world.values)):
            share = max(round(0.5 * len(world.depth)), 1)
            held = world.counts[min(t, len(world.counts) - 1)]
            assert len(asked.select(world.at(t, asked)).active) == (held if asked.match else share)
