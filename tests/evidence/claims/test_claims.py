"""The claims file and the register: what is in the repository, and what is refused."""

import pytest
import yaml

from mat.errors import InputError
from mat.evidence.claims.load import load_claims
from mat.evidence.measures.curves import Convergence
from mat.evidence.sensitivity.register import load_register
from tests.evidence.written import changed_claims, claim, write


def test_the_repository_file_holds_every_claim(rules):
    ids = (
        *(
            "C1",
            "C1b",
            "C2",
            "C3",
            "C3b",
            "C4",
            "C4b",
            "C4r",
            "C5",
            "C5b",
            "C5r",
            "C6",
            "C6b",
            "C6br",
            "C6r",
            "C7",
            "C7b",
            "C7r",
            "C8",
        ),
        *(
            "X1",
            "X1b",
            "X1c",
            "X2",
            "X3",
            "X3b",
            *("X4", "X4r", "X5", "X5r", "X6"),
            "X6b",
            *(f"X{i}" for i in range(7, 10)),
        ),
        *("X9r", "X10", "X11", "X12"),
    )
    assert tuple(entry.id for entry in rules.claims) == ids
    assert all(entry.min_seeds == 3 for entry in rules.claims)


def test_every_rule_says_when_it_was_fixed(rules):
    fixed = {entry.id: entry.fixed for entry in rules.claims}
    assert all(text.startswith(("before any run", "before any result", "after")) for text in fixed.values())
    assert "after X1's result" in fixed["X1b"]
    assert fixed["C7"] == "before any run"


def test_rules_that_have_successors_name_them(rules):
    decides = {entry.id: entry.superseded_by for entry in rules.claims if entry.superseded_by}
    assert decides == {
        **{"C1": "C1b", "C3": "C3b", "C4": "C4b", "C4r": "C4b", "C5": "C5r", "C5b": "C5r"},
        **dict.fromkeys(("C6", "C6b", "C6r"), "C6br"),
        **{"C7": "C7r", "C7b": "C7r", "X1": "X1c", "X1b": "X1c", "X3": "X3b", "X4": "X4r", "X5": "X5r", "X9": "X9r"},
    }


def test_x1_is_the_rule_that_its_results_were_judged_by(rules):
    entry = next(one for one in rules.claims if one.id == "X1")
    assert (entry.uses, entry.measure) == ({"method": ["mat"], "reference": ["random"]}, "selection")
    assert entry.rule.startswith("Best validation loss of random minus MAT's, in percent of random's, paired by seed.")
    assert entry.thresholds == {"relevant_percent": 1, "full_share_percent": 95, "share_tolerance_points": 2}


def test_the_file_and_the_tables_define_convergence_alike(rules):
    assert rules.convergence == Convergence()


def test_claims_depend_on_registered_ambiguities_only(rules, register):
    known = {entry.id for entry in register}
    assert known == {f"A{i}" for i in range(1, len(register) + 1)}
    assert {name for entry in rules.claims for name in entry.ambiguities} <= known


REFUSED = {
    "unknown top key": (lambda c: c.update(extra=1), "unknown key 'extra'"),
    "unknown claim key": (lambda c: claim(c, "C4").update(treshold=1), r"C4.*unknown key 'treshold'"),
    "missing claim key": (lambda c: claim(c, "C4").pop("ledger"), r"C4.*'ledger' is missing"),
    "not said when it was fixed": (lambda c: claim(c, "C4").pop("fixed"), r"C4.*'fixed' is missing"),
    "unknown measure": (lambda c: claim(c, "C4").update(measure="guess"), "unknown measure 'guess'"),
    "unknown threshold": (lambda c: claim(c, "C4")["thresholds"].update(other=1), "thresholds: unknown key 'other'"),
    "missing threshold": (lambda c: claim(c, "C7")["thresholds"].pop("max_percent"), "'max_percent' is missing"),
    "threshold not a number": (lambda c: claim(c, "C8")["thresholds"].update(cheap_percent="5 %"), "expected a number"),
    "unknown role": (lambda c: claim(c, "C4")["uses"].update(other="mat"), "uses: unknown key 'other'"),
    "no label": (lambda c: claim(c, "C6")["uses"].update(baselines=[]), r"uses\.baselines: expected 1 at least"),
    "unknown ledger": (lambda c: claim(c, "C4").update(ledger="paper"), "ledger: expected 'executed'"),
    "one seed": (lambda c: claim(c, "C4").update(min_seeds=1), "whole number of at least 2"),
    "tasks not a list": (lambda c: claim(c, "C4").update(tasks="digits"), "tasks: expected a list"),
    "twice": (lambda c: c["claims"].append(claim(c, "C4")), "C4 twice"),
    "no claims": (lambda c: c.update(claims=[]), "at least one claim"),
    "claim not a mapping": (lambda c: c.update(claims=["C4"]), "expected a mapping"),
    "unknown overall verdict": (lambda c: c["overall"].update(mixed="perhaps"), "overall.mixed"),
    "superseded by none": (lambda c: claim(c, "C4").update(superseded_by="C9"), r"C4: superseded_by: .*got 'C9'"),
    "superseded twice": (lambda c: claim(c, "C4").update(superseded_by="C5"), r"C4: superseded_by: .*got 'C5'"),
    "correction never fixed": (lambda c: c["correction"].update(fixed=""), r"correction\.fixed"),
    "untested by hand": (lambda c: claim(c, "C2").update(not_tested="x"), r"C2.*unknown key 'not_tested'"),
    "impossible epsilon": (lambda c: c["convergence"].update(epsilon=2), "epsilon must be in"),
    "window not whole": (lambda c: c["convergence"].update(window=1.5), "whole number"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_claims_file_is_refused(tmp_path, name):
    change, message = REFUSED[name]
    with pytest.raises(InputError, match=message):
        load_claims(changed_claims(tmp_path, change))


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*none\.yaml"):
        load_claims(tmp_path / "none.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1")
    with pytest.raises(InputError, match="is not YAML"):
        load_claims(tmp_path / "broken.yaml")


ENTRY = {"id": "A1", "open": "What?", "default": "this", "alternatives": ["that"], "sensitivity": []}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "expected a list"),
        ([ENTRY, ENTRY], "A1 twice"),
        ([ENTRY | {"id": "B1"}], "expected A and a number"),
        ([ENTRY | {"open": " "}], "A1: open: expected a text"),
        ([ENTRY | {"sensitivity": "all"}], "sensitivity: expected a list"),
        ([ENTRY | {"note": "x"}], "unknown key 'note'"),
    ],
)
def test_a_wrong_register_is_refused(tmp_path, entries, message):
    path = tmp_path / "ambiguities.yaml"
    path.write_text(yaml.safe_dump(entries))
    with pytest.raises(InputError, match=message):
        load_register(path)


def test_the_register_is_written_as_a_page(tmp_path, register):
    write(tmp_path, "ambiguities")
    page = (tmp_path / "ambiguities.md").read_text(encoding="utf-8")
    assert sum(line.startswith("| A") for line in page.splitlines()) == len(register)
