"""YAML files read strictly: a key that stands twice, or that YAML reads as no text, is an error with its line.

Numbers may be written as ``1e-3``, which YAML 1.1 takes for a text, and dates stay texts.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from mat.errors import InputError


class _Loader(yaml.SafeLoader):
    """``SafeLoader`` with exponents and without dates."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if not tag.endswith(":timestamp")]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+"), list("-+0123456789")
)


def read_yaml(path: Path) -> Any:
    """The content of a YAML file. Raises InputError, with file and line, when it is missing or not as it should be."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"expected a YAML file at {path}, found none ({error.strerror}); name an existing file"
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text in UTF-8: {error}") from None
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _check_keys(root, path, "", [])
        return loader.construct_document(root)
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    finally:
        loader.dispose()


def _check_keys(node: yaml.Node, path: Path, place: str, above: list[yaml.Node]) -> None:
    """Refuse keys that stand twice in a mapping and keys that are no texts, at every depth."""
    if any(node is one for one in above):
        raise InputError(f"{path}: line {_line(node)}: {place} contains itself; write it out")
    above = [*above, node]
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            _check_keys(item, path, f"{place}.{number}".lstrip("."), above)
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[str, int] = {}
    for key, value in node.value:
        where = f"{path}: line {_line(key)}: {place + ': ' if place else ''}"
        if key.tag == "tag:yaml.org,2002:merge":
            continue  # ``<<: *other``; what it brings is checked where it stands
        if key.tag != "tag:yaml.org,2002:str":
            said = f'the key {key.value} is {key.tag.rpartition(":")[2]} to YAML; write "{key.value}"'
            raise InputError(
                where + (said if isinstance(key, yaml.ScalarNode) else "a key must be a text, not a list or mapping")
            )
        if key.value in lines:
            raise InputError(
                f"{where}the key {key.value!r} stands twice, first in line {lines[key.value]}; leave one of them out"
            )
        lines[key.value] = _line(key)
        _check_keys(value, path, f"{place}.{key.value}".lstrip("."), above)


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1
