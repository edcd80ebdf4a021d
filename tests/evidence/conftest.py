import pytest

from mat.evidence.runs import pool
from tests.evidence.synthetic import write_runs


@pytest.fixture(scope="session")
def tables(tmp_path_factory):
    """Five methods, two tasks, three seeds; one multirate run on hmm diverged."""
    root = tmp_path_factory.mktemp("synthetic")
    return pool.collect(write_runs(root, diverged=[("hmm", "multirate", 2)]))
