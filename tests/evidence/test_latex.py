"""The LaTeX of the committed tables is taken by an engine as it is; without one, it is what every engine takes."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLES = sorted((ROOT / "results/reference").rglob("tables/*.tex"))
ENGINES = ("pdflatex", "lualatex", "xelatex", "tectonic")
ENGINE = next(filter(None, map(shutil.which, ENGINES)), None)


def test_tables_are_plain_latex():
    assert len(TABLES) > 10
    for path in TABLES:
        text = path.read_text(encoding="utf-8")
        assert text.isascii(), path
        bare = re.sub(r"\\[{}]", "", text)
        assert bare.count("{") == bare.count("}"), path
        begun, ended = (re.findall(rf"\\{word}{{(\w+\*?)}}", text) for word in ("begin", "end"))
        assert set(begun) in ({"table*", "tabular"}, set()), path  # nothing is set where a table has no rows
        assert sorted(begun) == sorted(ended), path


@pytest.mark.skipif(ENGINE is None, reason=f"no TeX engine: none of {', '.join(ENGINES)} is installed")
def test_tables_compile(tmp_path):
    body = "\n".join(rf"\input{{{path.as_posix()}}}\clearpage" for path in TABLES)
    head = r"\documentclass[twocolumn]{article}\usepackage{booktabs,graphicx}\begin{document}"
    (tmp_path / "all.tex").write_text(f"{head}\n{body}\n\\end{{document}}\n", encoding="utf-8")
    options = [] if Path(ENGINE).name == "tectonic" else ["-interaction=nonstopmode", "-halt-on-error"]
    done = subprocess.run([ENGINE, *options, "all.tex"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "all.pdf").stat().st_size > 10_000
