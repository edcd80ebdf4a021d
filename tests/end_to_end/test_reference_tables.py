"""Every committed table, figure and page comes out as it is committed: from the runs' records where they are kept, else
from what was pooled of them."""

from pathlib import Path

import pytest

from mat.evidence.reference import keep
from mat.evidence.reference.build import Steps
from mat.experiments.cli.commands.step import ceiling_of, drawn

pytestmark = pytest.mark.results
ROOT = Path(__file__).parents[2]


def test_every_committed_file_comes_out_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    found = keep.check(ROOT, tmp_path / "again", Steps(drawn, ceiling_of))
    assert {one.place.name: one.apart for one in found if one.apart} == {}
    assert sum(one.same for one in found) > 150
