"""Evidence reads files only: it must not load torch, nor anything else heavy, nor any of the training code."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FORBIDDEN = {"torch", "mat.experiments", "torchvision", "transformers", "datasets", "sklearn", "matplotlib"}


def test_evidence_never_imports_torch_nor_what_training_and_figures_need():
    """The linter reads the imports that stand in the code; this asks what is loaded in the end."""
    files = (ROOT / "mat" / "evidence").rglob("*.py")
    names = sorted(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files)
    assert "mat.evidence.claims.rules.saving" in names
    code = f"import sys, {', '.join(names)}; print({FORBIDDEN} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
