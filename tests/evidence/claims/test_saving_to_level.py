"""C4b's rule on invented runs: reached and cheap, reached by none, and among survivors."""

import pytest

from mat.evidence.claims.rule import Case
from mat.evidence.claims.rules.saving_to_level import RULE
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_SUPPORTED, SUPPORTED
from tests.evidence.synthetic import METHODS, changed, collected


@pytest.mark.parametrize(
    ("mat", "diverged", "verdict", "said"),
    [
        ({"cost": 0.4, "probe": 1e-6, "extra_loss": -0.05}, [], SUPPORTED, "reached the final level in 3 of 3 seeds"),
        ({"cost": 4.0, "extra_loss": -0.05}, [], NOT_SUPPORTED, "reached the final level in 3 of 3 seeds"),
        (
            {"cost": 0.1, "extra_loss": 0.5},
            [],
            NOT_SUPPORTED,
            "reached the final level in 0 of 3 seeds",
        ),  # cheap, worse
        ({"cost": 0.4, "probe": 1e-6, "extra_loss": -0.05}, [("hmm", "vanilla", 3)], INCONCLUSIVE, "Diverged runs"),
    ],
)
def test_the_final_level_decides(rules, mat, diverged, verdict, said):
    claim = next(each for each in rules.claims if each.id == "C4b").played_by("method", ["mat"])
    methods = {name: changed(mat=mat)[name] for name in ("vanilla", "mat")}
    tables = collected(tasks=["hmm"], methods=methods, seeds=range(3 + len(diverged)), diverged=diverged)
    found = RULE.evaluate(Case(tables, "hmm", claim, rules.convergence))
    assert (found.verdict, len(found.deciding)) == (verdict, 1)
    assert said in found.reason and "75 % of the way" in found.reason


def test_without_a_finished_vanilla_there_is_no_level(rules):
    claim = next(each for each in rules.claims if each.id == "C4b").played_by("method", ["mat"])
    methods = {name: METHODS[name] for name in ("vanilla", "mat")}
    lost = [("hmm", "vanilla", seed) for seed in range(3)]
    tables = collected(tasks=["hmm"], methods=methods, diverged=lost)
    assert "no level to reach" in RULE.evaluate(Case(tables, "hmm", claim, rules.convergence)).reason
