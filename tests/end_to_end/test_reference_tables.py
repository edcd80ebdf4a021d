"""From the committed pooled tables every other table and page comes out as it is committed, byte for byte; only the
commands and paths that a page names may differ."""

import re
import shutil
from pathlib import Path

import pytest

from mat.evidence.catalogue import tables as catalogue
from mat.evidence.report import files

pytestmark = pytest.mark.results
ROOT = Path(__file__).parents[2]
CLAIMS, LEVELS = ROOT / "workflows/claims.yaml", ROOT / "workflows/sanity.yaml"
REGISTER = ROOT / "workflows/ambiguities.yaml"
PARTS = sorted(path.parent.parent for path in (ROOT / "results").rglob("tables/runs.csv"))
POOLED = ("runs.csv", "curves.parquet", "probes.parquet", "SHA256SUMS")
STUDIED = (
    "agreement.csv", "price_list.csv", "ceiling.csv", "ceiling_parts.csv", "trainability.csv",
    "trainability_modules.csv", "generalisation.csv",
)  # fmt: skip
COMMAND = re.compile(
    r"(`|<code>)[^`<\n]*\b(?:snakemake|python -m mat|mat)\b[^`<\n]*(`|</code>)|^.*\b(?:snakemake|-m mat)\b.*$", re.M
)


def name(part):
    return str(part.relative_to(ROOT / "results"))


def said(path):
    """The file's text without the commands that it names."""
    return COMMAND.sub("(command)", path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=PARTS, ids=name)
def made(request, tmp_path_factory):
    """A part's tables and pages, made from its pooled tables and its studies' tables alone, and the part."""
    part = request.param
    root = tmp_path_factory.mktemp("again")
    there = root / part.relative_to(ROOT)
    folder = there / "tables"
    folder.mkdir(parents=True)
    for file in (*POOLED, *STUDIED):
        if (part / "tables" / file).is_file():
            shutil.copy(part / "tables" / file, folder)
    if (part / "ERRATUM.md").is_file():
        shutil.copy(part / "ERRATUM.md", there)
    wanted = {path.stem for path in (part / "tables").glob("*.*")}
    rules = {"claims": CLAIMS, "levels": LEVELS, "ambiguities": REGISTER}
    for record in catalogue.tables().values():
        if record.name in wanted and f"{record.name}.csv" in STUDIED:  # its own study's files are not committed
            catalogue.write_pages(record, folder, catalogue.given(record, folder, **rules))
    # every other one, after those that it reads
    later = [one for one in catalogue.tables().values() if f"{one.name}.csv" not in STUDIED and one.name in wanted]
    for record in sorted(later, key=lambda one: one.name == "verdicts"):
        catalogue.write(record.name, folder, **rules)
    if "verdicts" in wanted:
        # what hashes of files cannot say again: the recorded ones
        for file in ("provenance.json", "provenance.md"):
            shutil.copy(part / "tables" / file, folder)
        figures = root / "paper_figures" / part.relative_to(ROOT / "results")
        shutil.copytree(ROOT / "paper_figures" / part.relative_to(ROOT / "results"), figures)
        for script in (ROOT / "paper_figures").glob("*.py"):
            shutil.copy(script, root / "paper_figures")
        files.report(folder, figures, CLAIMS, ROOT / "mat/methods", ROOT / "workflows/report", there, root)
        files.reproducibility(folder, CLAIMS, REGISTER, there)
    return there, part


def test_every_table_and_page_comes_out_as_it_is_committed(made):
    again, part = made
    files = [path for path in sorted(part.rglob("*")) if path.suffix in (".csv", ".md", ".tex", ".html")]
    files = [path for path in files if "only" not in path.relative_to(part).parts]
    assert len(files) > 6
    missing = [name(path) for path in files if not (again / path.relative_to(part)).is_file()]
    assert not missing
    different = [name(path) for path in files if said(again / path.relative_to(part)) != said(path)]
    assert not different
