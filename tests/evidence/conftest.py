import pytest

from tests.evidence.synthetic import collected


@pytest.fixture(scope="session")
def tables():
    """Five methods, two tasks, three seeds; one multirate run on hmm diverged."""
    return collected(diverged=[("hmm", "multirate", 2)])
