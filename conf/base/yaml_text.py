"""Reads YAML of the user's within bounds: plain values, and nothing that grows when it is read.

PyYAML's safe loader runs nothing. But a few lines of it may name each other to billions of values, a key may be given
twice and lose its first value in silence, and dates and numbers that do not exist raise exceptions of all kinds.
"""

from collections import Counter

import yaml

MAX_CHARACTERS = 200_000
MAX_DEPTH = 50
MAX_VALUES = 20_000
"""Values and keys, an alias counted as what it stands for."""
MAX_DIGITS = 100


class BadYaml(ValueError):
    """The text is not YAML, or beyond the bounds. The message may have several lines."""


class _Loader(yaml.SafeLoader):
    """Stops where nodes are nested too deep, before it reads on."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise BadYaml(f"line {self.line + 1}: it is nested more than {MAX_DEPTH} levels deep")
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def parse_yaml(text: str) -> object:
    """The value of a YAML (or JSON) document. Raises BadYaml."""
    if len(text) > MAX_CHARACTERS:
        raise BadYaml(f"it has {len(text)} characters, at most {MAX_CHARACTERS} were expected")
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check(node)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except BadYaml:
        raise
    except Exception as error:  # noqa: BLE001 - a date or number that does not exist may raise nearly anything
        raise BadYaml(f"{error}"[:500] or type(error).__name__) from None


def _check(document: yaml.Node) -> None:
    measured: dict[int, tuple[int, int] | None] = {}

    def measure(node: yaml.Node, depth: int) -> tuple[int, int]:
        """Number of values and levels, after checking them; a node that aliases name is checked once."""
        where = f"line {node.start_mark.line + 1}"
        if id(node) not in measured:
            measured[id(node)] = None
            _check_node(node, where)
            parts = [measure(child, depth + 1) for child in _children(node)]
            measured[id(node)] = 1 + sum(size for size, _ in parts), 1 + max((levels for _, levels in parts), default=0)
        known = measured[id(node)]
        if known is None:
            raise BadYaml(f"{where}: it contains itself")
        if known[0] > MAX_VALUES:
            raise BadYaml(f"{where}: it has more than {MAX_VALUES} values, aliases counted as what they stand for")
        if depth + known[1] - 1 > MAX_DEPTH:
            raise BadYaml(f"{where}: it is nested more than {MAX_DEPTH} levels deep")
        return known

    measure(document, 1)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _check_node(node: yaml.Node, where: str) -> None:
    if isinstance(node, yaml.MappingNode):
        keys = Counter((key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if repeated := [value for (_, value), times in keys.items() if times > 1]:
            raise BadYaml(f"{where}: the key {repeated[0][:80]!r} is given more than once")
    elif isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:int" and len(node.value) > MAX_DIGITS:
        raise BadYaml(f"{where}: it has a number of {len(node.value)} digits")
