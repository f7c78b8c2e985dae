"""Text that users see or that is saved: without secrets, and in one line that a terminal shows as it is."""

import re
import unicodedata
from typing import Any, TypeVar

_NAMES = r"(?:secret|passw(?:or)?d|pwd|token|signature|credential|access[._-]?key|api[._-]?key|account[._-]?key)"
# Every repetition is bounded: without it a long text takes time by the square of its length.
_SECRETS = (
    # password="..."
    re.compile(rf"(?i)({_NAMES}[\w.-]{{0,40}}=\")[^\"]{{1,400}}()"),
    re.compile(rf"(?i)({_NAMES}[\w.-]{{0,40}}=')[^']{{1,400}}()"),
    # ?token=..., &X-Amz-Signature=..., fs.s3a.secret.key=...
    re.compile(rf"(?i)({_NAMES}[\w.-]{{0,40}}=)[^\s\"'&;,#]+()"),
    re.compile(r"(?i)([?&;](?:sig|key|auth)=)[^\s\"'&;,#]+()"),
    # https://TOKEN@host; and SCHEME://USER:PASSWORD@host, where a path has one slash and a password may hold some
    re.compile(r"(?i)(\bhttps?:/{1,2})[^\s@/\"']{1,400}(@)"),
    re.compile(r"(?i)(:/{1,2})[^\s@/:\"',]{0,200}:[^\s@\"',]{0,400}(@)"),
    # USER:PASSWORD@host, as in lists of brokers
    re.compile(r"((?:^|[\s,=\"'(]))[\w.+-]{1,200}:[^\s@/:\"',]{1,400}(@\w)"),
)
_HIDDEN = r"\1***\2"
_known_secrets: set[str] = set()
_SHORTEST_SECRET = 4
"""Anything shorter is no secret, and its characters occur everywhere."""

MOST_CHARACTERS = 2000
_UNSHOWN_CATEGORIES = ("Cc", "Cs", "Zl", "Zp")
"""Control characters, halves of characters and line separators, which terminals act on and JSON does not take."""
_DIRECTIONS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""They change the order in which the rest of a line is shown."""

Value = TypeVar("Value")


def redacted(text: str) -> str:
    """The text with *** in the place of passwords, tokens and keys in URLs, lists of brokers and settings.

    And in the place of the secrets that this process knows (hide).
    """
    for secret in sorted(_known_secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    for pattern in _SECRETS:
        text = pattern.sub(_HIDDEN, text)
    return text


def hide(secret: str) -> None:
    """Let redacted() replace a secret, also in one line, and its lines and quoted parts, as JAAS settings have them."""
    parts = [secret, " ".join(secret.split()), *secret.splitlines(), *re.findall(r"[\"']([^\"'\s]+)[\"']", secret)]
    _known_secrets.update(part.strip() for part in parts if len(part.strip()) >= _SHORTEST_SECRET)


def redacted_values(value: Value) -> Value:
    """As redacted, for all texts in a JSON value."""
    changed: Any = value
    if isinstance(value, str):
        changed = redacted(value)
    elif isinstance(value, dict):
        changed = {key: redacted_values(part) for key, part in value.items()}
    elif isinstance(value, list | tuple):
        changed = type(value)(map(redacted_values, value))
    return changed


def is_plain(text: str) -> bool:
    """Whether a terminal shows every character of the text, and in this order."""
    return not any(map(_is_unshown, text))


def one_line(text: str) -> str:
    """The text in one line without secrets: control characters as escapes, the middle of a long text cut."""
    return shortened(printable(redacted(" ".join(line.strip() for line in text.splitlines() if line.strip()))))


def printable(text: str) -> str:
    r"""``text`` with control characters, and bytes that are not UTF-8, as escapes such as \n or \x1b."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def shortened(text: str, most: int = MOST_CHARACTERS) -> str:
    """The text, or its two ends of half as many characters if it has more than so many."""
    half = most // 2
    return text if len(text) <= most else f"{text[:half]} ... {text[-half:]}"


def _is_unshown(character: str) -> bool:
    return unicodedata.category(character) in _UNSHOWN_CATEGORIES or character in _DIRECTIONS
