"""What the site has beside its pages: the README as first page, committed figures, places filled from tables."""

import re
from pathlib import Path

from mkdocs.structure.files import File

from mat.evidence.reference.pages import filled

ROOT = Path(__file__).parents[1]
FIGURES = "paper_figures/reference"
FROM_ROOT = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
# a page outside docs/ is linked by its place in the repository
LINKS = {"docs/": "", **FROM_ROOT}


def on_files(files, config):
    """Pages of the repository's root, and figures that a page shows."""
    for name, page in FROM_ROOT.items():
        files.append(File.generated(config, page, content=linked((ROOT / name).read_text(encoding="utf-8"))))
    texts = [page.content_string for page in files.documentation_pages()]
    for name in {name for text in texts for name in re.findall(rf"\]\((?:\.\./)?{FIGURES}/([^)]+)\)", text)}:
        files.append(File.generated(config, f"figures/{name}", abs_src_path=str(ROOT / FIGURES / name)))
    return files


def linked(text):
    """A page of the root with its links as the site has them; a file that the site has not is named, not linked."""
    for name, page in LINKS.items():
        text = text.replace(f"]({name}", f"]({page}")
    return re.sub(r"\[([^\]]+)\]\((?!http|paper_figures|[\w/-]*\.md)[^)]+\)", r"\1", text)


def on_page_markdown(markdown, page, config, files):
    """Fill every place, and show figures from where the site has them."""
    return re.sub(rf"\]\((?:\.\./)?{FIGURES}/", "](figures/", filled(markdown, ROOT, lists=True))
