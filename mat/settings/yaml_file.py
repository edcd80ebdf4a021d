"""YAML files read strictly: a key that stands twice, or that YAML reads as no text, is an error with its line.

Numbers may be written as ``1e-3``, which YAML 1.1 takes for a text. Dates stay texts, and so does what YAML 1.1 alone
takes for another number than it looks like: ``1:30`` (90), ``010`` (8), ``1_0`` (10).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from mat.errors import InputError
from mat.settings.given import read_text

LARGEST = 100_000  # values, those that aliases repeat among them


class _Loader(yaml.SafeLoader):
    """``SafeLoader`` with the numbers of YAML 1.2, and without dates."""


_OTHERWISE = ("timestamp", "int", "float")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag.rpartition(":")[2] not in _OTHERWISE]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _number in (
    ("int", r"[-+]?(0|[1-9][0-9]*)$"),
    (
        "float",
        r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$",
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_number), list("-+.0123456789"))


def read_yaml(path: Path) -> Any:
    """The content of a YAML file. Raises InputError, with file and line, when it is missing or not as it should be."""
    text = read_text(path, "a YAML file")
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            return None
        _check(root, path, "", [], {})
        return loader.construct_document(root)
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    except ValueError as error:  # of a number of thousands of digits
        raise InputError(f"{path} holds a value that cannot be read: {error}") from None
    except RecursionError:
        raise InputError(f"{path} is nested too deeply; a config takes a dozen levels at most") from None


def yaml_text(content: Any) -> str:
    """Plain values as YAML, in their order, innermost mappings on one line."""
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)


def _check(node: yaml.Node, path: Path, place: str, above: list[yaml.Node], sizes: dict[int, int]) -> int:
    """Refuse keys that stand twice in a mapping and keys that are no texts, at every depth, and what aliases make too
    large; the number of values in ``node``. ``sizes``: of nodes that are checked."""
    if any(node is one for one in above):
        raise InputError(f"{path}: line {_line(node)}: {place} contains itself; write it out")
    if id(node) in sizes:
        return sizes[id(node)]
    size, above = 1, [*above, node]
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            size += _check(item, path, f"{place}.{number}".lstrip("."), above, sizes)
    elif isinstance(node, yaml.MappingNode):
        size += _check_mapping(node, path, place, above, sizes)
    if size > LARGEST:
        raise InputError(
            f"{path}: line {_line(node)}: {place or 'it'} holds more than {LARGEST} values, aliases written out; "
            "expected a config"
        )
    sizes[id(node)] = size
    return size


def _check_mapping(
    node: yaml.MappingNode, path: Path, place: str, above: list[yaml.Node], sizes: dict[int, int]
) -> int:
    size = 0
    lines: dict[str, int] = {}
    for key, value in node.value:
        where = f"{path}: line {_line(key)}: {place + ': ' if place else ''}"
        if key.tag == "tag:yaml.org,2002:merge":
            size += _check(value, path, place, above, sizes)  # ``<<: *other``
            continue
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
        size += _check(value, path, f"{place}.{key.value}".lstrip("."), above, sizes)
    return size


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1
