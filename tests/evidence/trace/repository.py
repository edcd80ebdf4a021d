"""A repository whose numbers are traced."""

from functools import cache

from mat.evidence.catalogue.tables import load
from mat.evidence.claims.load import load_claims
from mat.evidence.claims.readings import load_readings
from mat.evidence.trace import number
from tests.evidence.written import CLAIMS, RULE_FILES

TABLES = "results/demo/tables"


@cache
def rules():
    """The repository's claims file and its readings."""
    return {"claims": load_claims(CLAIMS), "readings": load_readings(RULE_FILES["readings"])}


def traced(root, *words):
    """The numbers that ``words`` name."""
    return number.trace(root / TABLES, words, rules(), load(root / TABLES), root)
