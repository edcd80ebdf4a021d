"""Evidence reads files only: it must not load torch, nor any of the training code."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_evidence_never_imports_torch():
    """The linter reads the imports that stand in the code; this asks what is loaded in the end."""
    files = (ROOT / "mat" / "evidence").rglob("*.py")
    names = sorted(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files)
    assert "mat.evidence.claims.rules.saving" in names
    code = f"import sys, {', '.join(names)}; print({{'torch', 'mat.experiments'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
