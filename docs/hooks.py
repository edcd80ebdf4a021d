"""What the site has beside its pages: the README as first page, committed figures, places filled from tables."""

import re
from pathlib import Path

from mkdocs.structure.files import File

from mat.evidence.reference.pages import filled

ROOT = Path(__file__).parents[1]
FIGURES = "paper_figures/reference"
FROM_ROOT = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}


def on_files(files, config):
    """Pages of the repository's root, and figures that a page shows."""
    for name, page in FROM_ROOT.items():
        files.append(File.generated(config, page, content=linked((ROOT / name).read_text(encoding="utf-8"))))
    texts = [page.content_string for page in files.documentation_pages()]
    for name in {name for text in texts for name in re.findall(rf"\]\((?:\.\./)?{FIGURES}/([^)]+)\)", text)}:
        files.append(File.generated(config, f"figures/{name}", abs_src_path=str(ROOT / FIGURES / name)))
    return files


def linked(text):
    """A page of the root with its links as from docs/; a file that the site has not is named, not linked."""
    text = re.sub(r"\]\((?:docs/)?([\w-]+\.md)", lambda found: f"]({FROM_ROOT.get(found[1], found[1])}", text)
    return re.sub(r"\[([^\]]+)\]\((?!http|paper_figures|[\w-]+\.md)[^)]+\)", r"\1", text)


def on_page_markdown(markdown, page, config, files):
    """Fill every place; what lies outside docs/ is where the site has it."""
    for name, place in {**FROM_ROOT, f"{FIGURES}/": "figures/"}.items():
        markdown = re.sub(rf"\]\((?:\.\./)?{re.escape(name)}", f"]({place}", markdown)
    return filled(markdown, ROOT, lists=True)
