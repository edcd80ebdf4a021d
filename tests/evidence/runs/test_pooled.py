"""Pooled tables that were damaged are one error, whatever reading them makes of it."""

import pytest

from mat.errors import InputError
from mat.evidence.runs import pooled
from tests.evidence.synthetic import collected

DAMAGES = {
    "emptied": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "noise": lambda content: bytes(reversed(content)),
    "other letters": lambda content: content.translate(bytes.maketrans(b"0123456789", b"abcdefghij")),
}


@pytest.mark.parametrize("name", pooled.FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_pooled_tables_are_one_error_that_says_to_collect_them_again(tmp_path, name, damage):
    pooled.save(collected(), tmp_path)
    path = tmp_path / name
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(InputError) as error:
        pooled.load(tmp_path)
    assert "\n" not in str(error.value)
    assert name in str(error.value) or "runs.csv" in str(error.value)
