"""The report as a reader opens it, in a real headless browser: the committed demo tables and figures."""

import shutil
from pathlib import Path

import pytest

from mat.evidence.report import files
from tests.end_to_end import browser as headless

ROOT = Path(__file__).parents[2]
WIDTHS = (1280, 390)
pytestmark = pytest.mark.skipif(
    headless.program() is None, reason=f"no browser: none of {', '.join(headless.PROGRAMS)} is installed"
)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    root = tmp_path_factory.mktemp("repository")
    tables, figures = root / "results/demo/tables", root / "paper_figures/demo"
    shutil.copytree(ROOT / "results/reference/demo/tables", tables)
    shutil.copytree(ROOT / "paper_figures/reference/demo", figures)
    claims, methods, assets = (ROOT / name for name in ("workflows/claims.yaml", "mat/methods", "workflows/report"))
    files.provenance(tables, figures, root)
    files.report(tables, figures, claims, methods, assets, tables.parent, root)
    return tables.parent / "report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with headless.Browser(tmp_path_factory.mktemp("profile")) as made:
        yield made


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_complains_and_no_request_leaves_the_page(browser, page, width):
    browser.events.clear()
    browser.open(page, width, anew=True)
    assert browser.complaints() == []
    left = [url for url in browser.requests() if not url.startswith(("data:", page.resolve().as_uri()))]
    assert left == []
    assert browser.requests()  # so that the list above could have held something


@pytest.mark.parametrize("width", WIDTHS)
def test_the_finding_and_the_matrix_of_verdicts_are_on_the_first_screen_and_cells_lead_to_their_numbers(
    browser, page, width
):
    browser.open(page, width)
    assert page.stat().st_size <= 3e6
    bottom = "document.querySelector('{}').getBoundingClientRect().bottom + window.scrollY"
    assert browser.ask(bottom.format(".finding")) < 500
    assert browser.ask(bottom.format(".matrix tbody tr")) < 844
    places = browser.ask(
        "[...document.querySelectorAll('.matrix td a')].map(a => document.getElementById(a.hash.slice(1)))"
        ".map(e => !!e && e.getBoundingClientRect().height > 0)"
    )
    assert len(places) > 20
    assert all(places)


@pytest.mark.parametrize("width", WIDTHS)
def test_wide_tables_scroll_in_their_boxes_and_the_body_does_not(browser, page, width):
    browser.open(page, width)
    assert browser.ask("document.documentElement.scrollWidth") <= width
    boxes = browser.ask("[...document.querySelectorAll('.scroll')].map(b => [b.scrollWidth, b.clientWidth])")
    assert len(boxes) > 10
    assert sum(inner > outer for inner, outer in boxes) >= 3
    first = browser.ask(
        "(() => { const b = [...document.querySelectorAll('.scroll')].find(b => b.scrollWidth > b.clientWidth + 50);"
        "b.scrollLeft = 0; const c = b.querySelector('tbody tr > *');"
        "const before = c.getBoundingClientRect().x; b.scrollLeft = 50;"
        "return [before, c.getBoundingClientRect().x, b.scrollLeft]; })()"
    )
    assert first[2] == 50
    assert abs(first[0] - first[1]) <= 1  # the first column stays


def test_every_link_leads_to_a_place_on_the_page_or_holds_its_file(browser, page):
    browser.open(page, 1280)
    dead = browser.ask(
        "[...document.querySelectorAll('a')].map(a => a.getAttribute('href')).filter(h => h.startsWith('#')"
        "? !document.getElementById(decodeURIComponent(h.slice(1))) : !h.startsWith('data:'))"
    )
    assert [path for path in dead if not (page.parent / path).is_file()] == []
    twice = browser.ask(
        "(() => { const ids = [...document.querySelectorAll('[id]')].map(e => e.id);"
        "return ids.filter((id, i) => ids.indexOf(id) < i); })()"
    )
    assert twice == []
    broken = browser.ask("[...document.images].filter(i => i.src && !i.naturalWidth).length")
    assert broken == 0
    assert browser.ask("document.querySelectorAll('a[download^=\"results.\"]').length") == 3


@pytest.mark.parametrize("width", WIDTHS)
def test_a_picture_opens_and_closes_by_mouse_and_by_keyboard(browser, page, width):
    browser.open(page, width)
    is_open = "document.getElementById('zoom').open"
    assert browser.ask(is_open) is False
    browser.click("figure img")
    assert browser.ask(is_open) is True
    assert browser.ask("document.querySelector('#zoom img').getBoundingClientRect().width") >= min(width, 900)
    browser.press("Escape", 27)
    assert browser.ask(is_open) is False
    browser.ask("document.querySelectorAll('figure img')[1].focus()")
    browser.press("Enter", 13, "\r")
    assert browser.ask(is_open) is True
    browser.click("#zoom button")
    assert browser.ask(is_open) is False
    assert browser.ask("document.activeElement === document.querySelectorAll('figure img')[1]") is True


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark_and_pictures_stay_on_white(browser, page, scheme):
    browser.open(page, 1280, scheme=scheme)
    ink, paper = browser.ask(
        "(() => { const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]; })()"
    )
    assert contrast(ink, paper) >= 7
    assert (luminance(paper) < 0.1) == (scheme == "dark")
    assert browser.ask("getComputedStyle(document.querySelector('figure img')).backgroundColor") == (
        "rgb(255, 255, 255)"
    )
    colours = browser.ask("[...document.querySelectorAll('.verdict')].map(e => getComputedStyle(e).color)")
    assert len(set(colours)) >= 3  # verdicts of the demo scale differ
    assert min(contrast(colour, paper) for colour in set(colours)) >= 4.5


def luminance(colour: str) -> float:
    """WCAG's relative luminance of ``rgb(r, g, b)``."""
    parts = [int(part) / 255 for part in colour[4:-1].split(",")]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)
