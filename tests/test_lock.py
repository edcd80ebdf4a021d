"""The two ways to the same environment: pip with constraints.txt, uv with uv.lock."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = {package["name"]: package for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]}
PINNED = {
    canonicalize_name(name): version
    for name, version in re.findall(r"^([^#\s=]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
}


def test_the_lock_has_the_versions_of_the_constraints():
    assert {name: PACKAGES[name]["version"] for name in PINNED if name in PACKAGES} == PINNED


def asked(requirement: Requirement, extra: str = "") -> tuple:
    return canonicalize_name(requirement.name), frozenset(requirement.extras), requirement.specifier, extra


def test_the_lock_is_of_the_dependencies_of_the_project():
    """If not: uv lock"""
    groups = {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
    wanted = {asked(Requirement(line), extra) for extra, lines in groups.items() for line in lines}
    found = set()
    for entry in PACKAGES["mat-reference"]["metadata"]["requires-dist"]:
        extras = f"[{','.join(entry.get('extras', []))}]"
        extra = re.search(r"extra == '(\w+)'", entry.get("marker", ""))
        line = Requirement(entry["name"] + extras + entry.get("specifier", ""))
        found.add(asked(line, extra[1] if extra else ""))
    assert found == wanted
