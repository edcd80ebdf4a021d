"""A repository whose numbers are traced."""

from mat.evidence.catalogue.tables import load
from mat.evidence.claims.load import load_claims
from mat.evidence.trace import number
from tests.evidence.written import CLAIMS

TABLES = "results/demo/tables"


def traced(root, *words):
    """The numbers that ``words`` name."""
    return number.trace(root / TABLES, words, load_claims(CLAIMS), load(root / TABLES), root)
