"""The report: verdicts first, what is there and nothing else, the same bytes for the same tables."""

import json
import re
import shutil
import struct
import zlib
from dataclasses import replace

import pandas as pd
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mat.errors import InputError
from mat.evidence.catalogue import figures
from mat.evidence.catalogue.tables import load
from mat.evidence.claims.load import load_claims
from mat.evidence.report import environment, matrix, terminal, verdicts
from mat.evidence.report import files as report_files
from mat.evidence.report import html as report_html
from mat.evidence.report.verdicts import in_short
from mat.evidence.runs.pooled import save
from mat.evidence.text import words
from tests.evidence.written import CLAIMS, REGISTER, ROOT
from tests.evidence.written import write as write_tables

PAGE, METHODS = ROOT / "workflows/report", ROOT / "mat/methods"


def png(path, width=3, height=2):
    """Write a white picture."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress((b"\0" + b"\xff" * width) * height)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))


def write(root, tables):
    """Tables, verdicts and one figure of a scale in a repository at ``root``, and their report."""
    folder = root / "results/demo/tables"
    save(tables, folder)
    write_tables(folder, "results", "scores", "verdicts", "ambiguities")
    png(root / "paper_figures/demo/loss_vs_compute.png")
    make(root)
    return root


def make(root):
    folder, figures = root / "results/demo/tables", root / "paper_figures/demo"
    report_files.provenance(folder, figures, root)
    report_files.report(folder, figures, CLAIMS, METHODS, PAGE, folder.parent, root)


def page(root):
    return (root / "results/demo/report.html").read_text()


@pytest.fixture(scope="module")
def made(tmp_path_factory, tables):
    return write(tmp_path_factory.mktemp("repository"), tables)


@pytest.fixture
def repository(made, tmp_path):
    """A copy, to be changed."""
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy"


def test_verdicts_come_first_and_every_chapter_in_its_order(made):
    chapters = re.findall(r"^## (.*)", (made / "results/demo/REPORT.md").read_text(), re.MULTILINE)
    assert chapters == [
        "Verdicts", "In short", "Tables", "Figures", "Seeds, hours, hardware and versions", "From data to figure",
        "What the paper leaves open", "Methods", "How to reproduce",
    ]  # fmt: skip
    found = re.findall(r"<h2>.*?>([^<]+)</a></h2>", page(made))
    assert found == chapters


def judged(root):
    """The verdicts, the claims, and the claim C4."""
    claims = load_claims(CLAIMS)
    frame = load(root / "results/demo/tables").made["verdicts"]
    return frame, claims, next(claim for claim in claims.claims if claim.id == "C4")


def test_a_claim_says_what_was_reported_and_measured_and_on_what_it_stands(made):
    frame, claims, claim = judged(made)
    rows = frame[frame["claim"] == "C4"]
    said = verdicts.paragraph(rows, claim)
    row = rows[(rows["task"] == "digits") & rows["decides"]].iloc[0]
    assert "Reported: savings of 26.4 to 50.9 % across settings." in said
    assert f"{words.task('digits')}" in said
    assert verdicts.measured(row) in verdicts.by_task(rows)
    cells = next(line for line in verdicts.overview(frame, claims).splitlines() if "[C4](#C4)" in line)
    assert "A1 A2 A3" in cells
    assert f"**{rows[rows['task'] == 'all'].iloc[0]['verdict']}**" in cells


def test_a_claim_that_nothing_tested_says_so(made):
    frame, _, claim = judged(made)
    rows = frame[(frame["claim"] == "C4") & (frame["task"] == "all")].assign(
        verdict="not tested at this scale", reason="it needs other runs."
    )
    said = verdicts.paragraph(rows, claim)
    assert said.endswith("Here: **not tested at this scale**. It needs other runs.")
    assert verdicts.by_task(rows) == ""


def test_further_columns_of_verdicts_are_shown_where_they_say_something(made):
    frame, claims, claim = judged(made)
    columns = ["after_correction", "seeds_needed", "bootstrap_low", "bootstrap_high", "detectable", "sanity"]
    frame = frame.drop(columns=columns, errors="ignore")
    assert "after correction" not in verdicts.overview(frame, claims)
    of = (frame["claim"] == "C4") & (frame["task"] == "digits")
    more = frame.assign(
        after_correction=["partly" if claim == "C4" else "" for claim in frame["claim"]],
        seeds_needed=["17" if is_it else "" for is_it in of],
        bootstrap_low=-1.25,
        bootstrap_high=2.5,
        detectable=[3.25 if is_it else float("nan") for is_it in of],
        sanity="",
    )
    top = verdicts.overview(more, claims)
    header = top.splitlines()[0]
    assert "after correction" in header
    assert "seeds it would need" in header
    assert "vanilla's level" not in header
    by_task = verdicts.by_task(more[more["claim"] == "C4"]).splitlines()
    assert "bootstrap over seeds" in by_task[0]
    assert "| [−1.2" in by_task[2]
    assert "3.25" in by_task[2]
    said = verdicts.paragraph(more[more["claim"] == "C4"], claim)
    assert "After correction for the number of claims: partly." in said
    assert "Seeds that a decision would need: 17." in said


def test_the_same_tables_give_the_same_bytes(made, repository):
    make(again := repository)
    for name in ("report.html", "REPORT.md", "tables/provenance.json"):
        assert (again / "results/demo" / name).read_bytes() == (made / "results/demo" / name).read_bytes(), name


def test_what_a_scale_does_not_have_is_left_out_and_a_new_table_is_shown(repository):
    root, folder = repository, repository / "results/demo/tables"
    assert "table-agreement" not in page(root)
    for name in ("verdicts.csv", "verdicts.md", "ambiguities.md"):
        (folder / name).unlink()
    (folder / "novel_table.md").write_text("# Novel\n\n| a | b |\n| --- | --- |\n| x | 1 |\n")
    make(root)
    found = page(root)
    assert "No claim is judged on these runs." in found
    assert 'id="C4"' not in found
    assert "Novel table" in found
    assert '<td class="num">1</td>' in found
    assert 'href="#A1"' not in found


def test_files_and_pictures_are_inside_the_page_and_nothing_is_fetched(made):
    found = page(made)
    assert 'download="results.csv" href="data:text/csv' in found
    assert 'download="results.tex" href="data:' in found
    assert 'src="data:image/png;base64,' in found
    assert 'width="3" height="2"' in found
    beside = set(re.findall(r'(?:src|href)="((?!#|data:)[^"]*)"', found))
    assert all((made / "results/demo" / path).stat().st_size > report_html.LARGE for path in beside)
    assert "default-src 'none'" in found
    assert "@import" not in found


def test_every_link_leads_to_a_place_on_the_page(made):
    found = page(made)
    places = set(re.findall(r'\bid="([^"]+)"', found))
    targets = set(re.findall(r'href="#([^"]+)"', found))
    assert {"A1", "C4", "verdicts", "table-results"} <= targets
    assert targets <= places


def test_links_of_the_markdown_lead_to_files(made):
    folder = made / "results/demo"
    links = re.findall(r"\]\(([^)]+)\)", (folder / "REPORT.md").read_text())
    assert "tables/results.csv" in links
    assert [link for link in links if not (folder / link).exists()] == []


def test_raw_html_of_a_table_is_text_and_a_break_in_a_cell_is_one():
    html = report_html.render("| a |\n| --- |\n| <b>x</b><br>y |", "t")
    assert "&lt;b&gt;x&lt;/b&gt;<br>y" in html


def test_columns_of_numbers_are_set_to_the_right_wherever_the_table_stands():
    html = report_html.render("| a | b | c |\n| --- | --- | --- |\n| x | 1.5 [−1, 2] | – |\n| y | – | 1 of z |", "t")
    assert html.count('class="num"') == 3  # header, number, dash
    assert '<td class="num">1.5 [−1, 2]</td>' in html
    assert '<div class="scroll"' in html


def test_links_to_files_beside_a_table_and_to_missing_places_become_text():
    html = report_html.render("[a](other.md) [b](#there) [c](#nowhere)", "t") + '<p id="there">'
    assert report_html.without_dead_links(html).startswith('<p>a <a href="#there">b</a> c</p>')


def test_cards_of_methods_are_read_without_running_them(tmp_path):
    (tmp_path / "mine.py").write_text(
        '"""Mine: the first\nsentence.\n\nClaim: none."""\nMETHOD = 1\nraise SystemExit\n'
    )
    (tmp_path / "base.py").write_text('"""Not a method."""\n')
    assert environment.method_cards(tmp_path) == [("mine", "Mine: the first sentence.", "Claim: none.")]
    names = [name for name, _, _ in environment.method_cards(METHODS)]
    assert {"mat", "vanilla"} <= set(names) and "history" not in names


def test_hours_are_the_sum_of_the_seconds_of_all_runs(tables):
    columns = ["seconds_train", "seconds_probe", "seconds_eval"]
    assert environment.hours(tables) == pytest.approx(tables.runs[columns].to_numpy().sum() / 3600)


def test_figures_without_a_picture_are_no_figures(tmp_path):
    (tmp_path / "ceiling.pdf").write_bytes(b"%PDF")
    png(tmp_path / "strange.png")
    assert [found.item.title for found in figures.there(tmp_path, ROOT / "paper_figures")] == ["Strange"]
    (tmp_path / "strange.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match="expected a PNG picture"):
        report_html.shown(tmp_path / "strange.png")


def test_a_figure_of_several_pages_is_a_picture_for_each(tmp_path):
    (said := PngInfo()).add_text("pages", "2 3")
    Image.new("RGB", (7, 5), "white").save(tmp_path / "two.png", pnginfo=said)
    png(tmp_path / "one.png")
    assert [(each["width"], each["height"]) for each in report_html.shown(tmp_path / "two.png")] == [(7, 2), (7, 3)]
    assert len(report_html.shown(tmp_path / "one.png")) == 1


def test_a_missing_template_is_named(made, tmp_path):
    folder = made / "results/demo/tables"
    with pytest.raises(InputError, match=r"expected page\.html\.j2"):
        report_files.report(folder, made / "paper_figures/demo", CLAIMS, METHODS, tmp_path, tmp_path, made)


def test_the_terminal_says_verdicts_first_in_80_columns_and_what_to_open_next(made):
    folder = made / "results/demo/tables"
    said = terminal.scale(folder, CLAIMS).splitlines()
    verdict = load(folder).made["verdicts"].query("claim == 'C4' and task == 'all'").iloc[0]
    place = next(place for place, line in enumerate(said) if line.startswith("C4 "))
    assert said[place][5] == matrix.LETTERS[verdict["verdict"]]
    assert place < next(place for place, line in enumerate(said) if line.startswith("Results: "))
    assert max(len(line) for line in said[:-1]) <= 80
    assert said[-1] == f"Open next: {folder.parent / 'report.html'}"
    assert "Erratum" not in "\n".join(said)


def test_an_erratum_beside_the_tables_comes_first_in_a_terminal(made, tmp_path):
    shutil.copytree(made / "results/demo/tables", tmp_path / "demo/tables")
    (tmp_path / "demo/ERRATUM.md").write_text("# Erratum\n\nThe headline is withdrawn.\n")
    tables, first = tmp_path / "demo/tables", "> **Erratum.** The headline is withdrawn.\n\n"
    words = ["results", "digits", "mat", "test_loss"]
    assert terminal.scale(tables, CLAIMS).startswith(first)
    assert report_files.trace(tables, words, CLAIMS, tmp_path, False).startswith(first)
    assert json.loads(report_files.trace(tables, words, CLAIMS, tmp_path, True))[0]["table"] == "results"


def test_the_summary_of_reproducibility_has_the_challenges_headings(made, tmp_path, tables):
    folder = made / "results/demo/tables"
    report_files.reproducibility(folder, CLAIMS, REGISTER, tmp_path)
    said = (tmp_path / "REPRODUCIBILITY.md").read_text()
    assert re.findall(r"^## (.*)", said, re.MULTILINE) == [
        "Scope of reproducibility", "Methodology", "Results", "What was easy", "What was difficult",
        "Communication with original authors", "Computational requirements",
    ]  # fmt: skip
    assert "None, at the time of writing." in said
    pooled = load(folder).runs
    finished = (pooled["status"] == "finished").sum()
    assert f"{finished} of {len(pooled)} runs finished" in said
    tops = (
        pd.read_csv(folder / "verdicts.csv").query("task == 'all'").drop_duplicates("claim")["verdict"].value_counts()
    )
    assert f"{tops.get('inconclusive', 0)} claims stay inconclusive" in said


def test_an_erratum_beside_the_report_stands_before_everything_else(made, tmp_path):
    folder = made / "results/demo/tables"
    (tmp_path / "ERRATUM.md").write_text("# Erratum\n\nThe *headline* is withdrawn.\n\nSee `runs.csv`.\n")
    report_files.report(folder, made / "paper_figures/demo", CLAIMS, METHODS, PAGE, tmp_path, made)
    report_files.reproducibility(folder, CLAIMS, REGISTER, tmp_path)
    said = "> **Erratum.** The *headline* is withdrawn.\n>\n> See `runs.csv`."
    for name in ("REPORT.md", "REPRODUCIBILITY.md"):
        blocks = (tmp_path / name).read_text().split("\n\n")
        assert blocks[0].startswith("# "), name
        assert blocks[1] == said, name
    header = (tmp_path / "report.html").read_text().partition("</h1>")[2].partition("A re-run of")[0]
    assert "<strong>Erratum.</strong> The <em>headline</em> is withdrawn." in header
    assert 'role="note"' in header
    assert "Erratum" not in page(made)


def test_the_rule_in_short_is_what_supports_a_claim_never_what_refutes_it():
    claims = {claim.id: claim for claim in load_claims(ROOT / "workflows/claims.yaml").claims}
    refuting = replace(claims["X1"], rule="Not supported when it is worse; supported when it is better; else open.")
    assert in_short(refuting) == "Rule: supported when it is better."
    assert in_short(claims["X1c"]).startswith("Rule: supported when one is shown over every control")
