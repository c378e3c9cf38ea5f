"""YAML into plain objects. No error quotes the text: a secret may stand in it."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

from datacube_flows.errors import DocumentError

_QUOTED = re.compile(r""" (?:'(?!<)[^']*'|"[^"]*")""")
"""What a parser's text repeats of the document; not the names of tokens, such as '<block end>'."""


class _BadKey(yaml.constructor.ConstructorError):
    """A key that cannot stand where it stands."""


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice instead of silently taking the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise _BadKey(None, None, "a key is a list or an object", key_node.start_mark)
            if key in seen:
                raise _BadKey(None, None, f"key '{key}' is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def load_documents(text: str, name: str) -> list[Any]:
    """Returns every document of a text; `name` is what errors call it.

    Raises:
        DocumentError: it is no YAML, nor JSON, which is YAML.
    """
    try:
        return list(yaml.load_all(text, Loader=_Loader))
    except yaml.YAMLError as error:
        raise DocumentError(f"{name} is no YAML: {_cause(error)}") from None


def _cause(error: yaml.YAMLError) -> str:
    """What is wrong, and where; the parser's own text would go on with the line itself."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return "it holds a character that YAML does not allow"
    mark, problem = error.problem_mark, str(error.problem)
    problem = problem if isinstance(error, _BadKey) else _QUOTED.sub("", problem)
    return f"{problem}, line {mark.line + 1}, column {mark.column + 1}"
