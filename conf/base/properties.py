"""Properties files, as Java programs read them: `key=value` lines, `#` comments, a backslash that continues a line."""

import re

_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_LETTERS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_BLANK = " \t\f"


def parse_properties(text: str) -> dict[str, str]:
    """Values by key. As in Java, a later value of a key replaces an earlier one."""
    values: dict[str, str] = {}
    for line in _logical_lines(text):
        # The key ends at the first =, : or blank that no backslash precedes.
        found = re.match(r"((?:[^\\=: \t\f]|\\.)*)[ \t\f]*[=:]?[ \t\f]*", line, re.DOTALL)
        assert found, "the pattern matches any line"
        values[_unescaped(found[1])] = _unescaped(line[found.end() :])
    return values


def _logical_lines(text: str) -> list[str]:
    """The lines without comments and blank ones, each with those that continue it."""
    lines: list[str] = []
    begun = ""
    for raw in re.split(r"\r\n|\r|\n", text):
        line = raw.lstrip(_BLANK)
        if not begun and (not line or line[0] in "#!"):
            continue
        whole, begun = begun + line, ""
        if (len(line) - len(line.rstrip("\\"))) % 2:
            begun = whole[:-1]
        else:
            lines.append(whole)
    return [*lines, *([begun] if begun else [])]


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda found: _character(found[1]), text)


def _character(escape: str) -> str:
    return chr(int(escape[1:], 16)) if len(escape) == 5 else _LETTERS.get(escape, escape)
