"""Evidence reads files only: it must not load torch, nor any of the training code."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_evidence_never_imports_torch():
    names = sorted(path.stem for path in (ROOT / "mat" / "evidence").glob("*.py") if path.stem != "__init__")
    assert "cli" in names
    code = f"import sys; from mat.evidence import {', '.join(names)}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
