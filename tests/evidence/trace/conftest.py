import shutil

import pytest


@pytest.fixture
def repository(kept, tmp_path):
    """A copy of the module's repository, to be changed."""
    shutil.copytree(kept, tmp_path / "copy")
    return tmp_path / "copy"
