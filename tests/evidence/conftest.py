import pytest

from mat.evidence.claims.load import load_claims
from mat.evidence.sensitivity.register import load_register
from tests.evidence.synthetic import collected
from tests.evidence.written import RULE_FILES


@pytest.fixture(scope="session")
def tables():
    """Five methods, two tasks, three seeds; one multirate run on hmm diverged."""
    return collected(diverged=[("hmm", "multirate", 2)])


@pytest.fixture(scope="session")
def rules():
    """The repository's claims file."""
    return load_claims(RULE_FILES["claims"])


@pytest.fixture(scope="session")
def register():
    """The repository's register of open choices."""
    return load_register(RULE_FILES["ambiguities"])
