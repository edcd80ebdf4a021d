"""The power plan from a pilot's tables."""

import math
from dataclasses import replace

import pandas as pd
import yaml

from mat.evidence.claims.readings import load_readings
from mat.evidence.claims.seeds_by_power import scale_plan
from mat.evidence.runs import pooled
from mat.evidence.stats.power import seeds_for
from mat.experiments.cli.main import main
from mat.settings.power import read_power
from tests.evidence.synthetic import collected
from tests.evidence.written import RULE_FILES


def test_a_pilot_says_what_its_claims_need_and_a_task_never_has_more_than_are_listed(rules):
    matters = {"C4": {"%": 10.0}, "C4b": {"%": 10.0}, "X1": {"% of its loss": 1e-6}}
    ended = pd.DataFrame({"task": ["digits", "hmm"], "verdict": "", "converged": "converged"})
    tables = replace(collected(), made={"sanity": ended})
    made = scale_plan(tables, rules, load_readings(RULE_FILES["readings"]), matters, 5)
    assert set(made["tasks"]) == {"digits", "hmm"}
    for found in made["tasks"].values():
        assert found["claims"]["X1"]["needed"] is None and found["seeds"] == 5
        assert found["claims"]["C4b"]["spread"] > 0 and found["claims"]["C4b"]["effect"] == 10
        need = found["claims"]["C4"]
        assert need["needed"] == seeds_for(-math.log(0.9) / need["spread"], 3)


def test_the_command_completes_the_plan_and_keeps_what_is_written_by_hand(tmp_path, capsys):
    tables, out = tmp_path / "tables", tmp_path / "power.yaml"
    pooled.save(collected(tasks=["hmm"]), tables)
    given = {"matters": {"C4": {"effects": {"%": 10}, "why": "Because."}}, "scales": {}}
    out.write_text(yaml.safe_dump(given))
    asked = ["step", "power", "--tables", str(tables), "--out", str(out), "--most", "4"]
    assert main(asked) == 0
    made = read_power(out)
    assert made.matters["C4"].why == "Because."
    assert made.scales["demo"].tasks["hmm"].claims["C4"].n == 3
    out.write_text(yaml.safe_dump({**given, "matters": {"C99": given["matters"]["C4"]}}))
    assert main(asked) == 2
    assert "matters.C99: expected a claim of claims.yaml" in capsys.readouterr().err
