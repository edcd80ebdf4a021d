"""The site is built strictly: a broken link, anchor or reference fails; nothing is asked from the network."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mat.methods import METHODS
from tests.end_to_end.browser import Browser, program

pytestmark = pytest.mark.docs
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_has_every_page_and_asks_nothing_of_the_network(site):
    built = {path.relative_to(site).as_posix(): path.read_text() for path in site.rglob("*.html")}
    assert {"index.html", "contributing.html", "changelog.html"} < set(built)
    assert {f"{path.stem}.html" for path in (ROOT / "docs").glob("*.md")} < set(built)
    for name, page in built.items():
        assert re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="?(?:https?:)?//[^">]*', page) == [], name
        assert "--8<--" not in page and "mat:" not in re.sub(r"<!--.*?-->", "", page).split("</title>")[0], name


def test_generated_pages_hold_what_their_files_say(site):
    methods = (site / "methods.html").read_text()
    assert set(METHODS) == set(re.findall(r'<h2 id="(\w+)"', methods))
    assert 'id="A1"' in (site / "open-choices.html").read_text()
    assert 'id="C4"' in (site / "claims.html").read_text()
    assert "class Moved" in re.sub(r"<[^>]+>", "", (site / "adding.html").read_text())
    assert (site / "search/search_index.js").is_file()  # the search that needs no server


def test_figures_are_the_committed_ones(site):
    shown = {path.relative_to(site / "figures") for path in (site / "figures").rglob("*.png")}
    assert shown
    for path in shown:
        assert (site / "figures" / path).read_bytes() == (ROOT / "paper_figures/reference" / path).read_bytes()


@pytest.mark.skipif(program() is None, reason="no Chromium")
def test_search_finds_a_page_of_files(site, tmp_path):
    with Browser(tmp_path) as browser:
        browser.open(site / "index.html", 390)
        browser.ask("document.querySelector('.md-search__input').focus()")
        browser.call("Input.insertText", text="first_logit")
        browser.wait(
            "[...document.querySelectorAll('.md-search-result__link')].some(one => one.href.includes('adding.html'))"
        )
        browser.wait("document.documentElement.scrollWidth === 390")  # once the search has slid in
        assert browser.complaints() == []
