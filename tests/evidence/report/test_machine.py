"""What other programs read: the claims as JSON that fits its schema, a scale's results as an RO-Crate."""

import hashlib
import json
import zipfile

import jsonschema
import pytest

from mat.errors import InputError
from mat.evidence.catalogue.tables import load
from mat.evidence.claims.verdict import VERDICTS
from mat.evidence.report import crate, machine
from mat.evidence.report import files as report_files
from mat.evidence.runs import pooled
from tests.evidence.written import ROOT, write

SCHEMA = json.loads((ROOT / machine.SCHEMA).read_text())


@pytest.fixture(scope="module")
def results(tmp_path_factory, tables):
    """A repository with pooled runs, a table of verdicts and a report."""
    root = tmp_path_factory.mktemp("repository")
    folder = root / "results/demo/tables"
    pooled.save(tables, folder)
    write(folder, "verdicts")
    pages = (ROOT / name for name in ("workflows/claims.yaml", "mat/methods", "workflows/report"))
    report_files.report(folder, root / "paper_figures/demo", *pages, folder.parent, root)
    return root


def test_the_claims_fit_their_schema_and_say_what_the_table_says(results):
    found = json.loads((results / "results/demo/claims.json").read_text())
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(found, SCHEMA)
    frame = load(results / "results/demo/tables").made["verdicts"]
    assert [claim["id"] for claim in found["claims"]] == list(dict.fromkeys(frame["claim"]))
    effects = [each for claim in found["claims"] for verdict in claim["verdicts"] for each in verdict["effects"]]
    shown = frame[frame["part"] != ""]
    assert [each["effect"] for each in effects] == [None if x != x else x for x in shown["effect"]]
    saving = next(each for each in effects if each["part"] == "saving" and each["decides"])
    assert saving["asked"] == [[26.4, None]]


def test_the_schema_knows_every_verdict_and_refuses_others(results):
    found = json.loads((results / "results/demo/claims.json").read_text())
    verdict = found["claims"][0]["verdicts"][0]
    for word in VERDICTS:
        verdict["verdict"] = word
        jsonschema.validate(found, SCHEMA)
    verdict["verdict"] = "maybe"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(found, SCHEMA)


def test_a_crate_describes_every_file_that_it_holds(results, tmp_path):
    folder = results / "results/demo/tables"
    report_files.crate(folder, results / "paper_figures/demo", tmp_path / "crate.zip", results)
    with zipfile.ZipFile(tmp_path / "crate.zip") as packed:
        graph = {each["@id"]: each for each in json.loads(packed.read(crate.METADATA))["@graph"]}
        held = set(packed.namelist()) - {crate.METADATA}
        described = {name for name, each in graph.items() if each["@type"] == "File"}
        assert held == described == {part["@id"] for part in graph["./"]["hasPart"]}
        assert {"results/demo/tables/verdicts.csv", "results/demo/report.html", "results/demo/claims.json"} <= held
        for name in held:
            assert graph[name]["sha256"] == hashlib.sha256(packed.read(name)).hexdigest()
    assert graph["ro-crate-metadata.json"]["about"] == {"@id": "./"}


def test_results_without_a_report_make_no_crate(results, tmp_path, tables):
    pooled.save(tables, tmp_path / "tables")
    with pytest.raises(InputError, match="expected a report in"):
        report_files.crate(tmp_path / "tables", tmp_path, tmp_path / "crate.zip", tmp_path)
