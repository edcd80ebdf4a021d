"""Made data, which tasks of the contract are read from."""

from tests.contract.task_cases import case, task  # noqa: F401
from tests.experiments.tasks.conftest import mirror, real_mirror, real_text, text_mirror  # noqa: F401
