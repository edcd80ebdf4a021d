"""What the records of tables say together."""

import pytest

from mat.errors import InputError
from mat.evidence.catalogue import tables as catalogue
from mat.evidence.claims import rules
from mat.evidence.tables.record import RUNS, SPECTRA
from mat.experiments.training import code_version
from tests.evidence.written import write


def test_what_a_record_reads_is_there_to_read():
    known = {RUNS, SPECTRA, *catalogue.tables(), *catalogue.rule_files()}
    for table in catalogue.tables().values():
        assert {name for name in table.reads if "/" not in name} <= known - {table.name} | {"ambiguities"}, table.name


def test_a_scale_has_the_tables_that_it_asks_for():
    every, without = (
        {table.name for table in catalogue.of_scale(asked)}
        for asked in (("agreement", "branches", "ceiling", "levels", "step_times", "tuning"), ())
    )
    assert every == set(catalogue.tables())
    gone = {"agreement", "price_list", "trainability", "trainability_modules", "generalisation"}
    gone |= {"ceiling", "ceiling_parts", "sanity", "step_times", "tuning"}
    assert every - without == gone


def test_the_code_of_a_table_is_its_own_and_not_that_of_another():
    results, verdicts = (
        code_version.modules(*catalogue.modules_of(catalogue.find(name))) for name in ("results", "verdicts")
    )
    assert {"mat.evidence.measures.over_seeds", "mat.evidence.stats.intervals"} <= set(results)
    assert not {"mat.evidence.tables.rivals", "mat.evidence.report.chapters"} & set(results)
    # found by name, imported by nobody
    assert f"{rules.__name__}.saving" in verdicts


def test_a_table_is_made_from_what_its_record_says():
    assert catalogue.sources(catalogue.find("sanity"), "demo")[-2:] == ["probes.parquet", "workflows/sanity.yaml"]
    assert catalogue.sources(catalogue.find("agreement"), "demo") == [
        "workflows/claims.yaml",
        "results/demo/agreement/*.csv.gz",
    ]


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [
        ("result", {}, "unknown table 'result'; expected one of verdicts, results"),
        ("ceiling", {}, "written by the study ceiling"),
        (
            "results",
            {"claim": "x.yaml"},
            "unknown rule file 'claim'; expected one of levels, readings, claims, ambiguities",
        ),
    ],
)
def test_what_cannot_be_written_is_refused_in_one_line(tmp_path, name, files, message):
    with pytest.raises(InputError, match=message):
        write(tmp_path, name, **files)


@pytest.mark.parametrize(
    "damaged",
    [
        b"", b"\n", b"task,method\ndigits\n", b"task,method\ndigits,mat,1\n", b"task,task\na,b\n", b"task,\na,b\n",
        b'task,method\ndigits,"mat\n', b"task,method\ndigits,\xff\n", b"PAR1\x00\xff\xfe", b'"task"x,method\na,b\n',
    ],
)  # fmt: skip
def test_a_table_that_was_cut_emptied_or_overwritten_is_one_clear_line(damaged, tmp_path):
    path = tmp_path / "results.csv"
    path.write_bytes(damaged)
    with pytest.raises(InputError, match=r"results\.csv is not a readable table .*; make it again") as error:
        catalogue.read(path)
    assert "\n" not in str(error.value)
