"""The README: what it links to is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_links_in_the_readme_lead_somewhere():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / "README.md").read_text())
    assert links
    for link in links:
        assert (ROOT / link).exists(), link
