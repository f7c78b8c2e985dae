"""Reads pickles of plain data; nothing in a pickle is ever imported, called or given attributes.

A pickle is a program for a machine with a stack and a memory, which calls functions by their names. This machine has
the instructions for numbers, text, bytes, lists, tuples and dicts. What a call means is up to `Calls`, which knows the
few names that the reader needs and builds their results by itself; all else is refused.

Each value costs at least a byte of the file, and no instruction copies what a file may name again and again. So memory
and time grow with the size of the file, whatever it contains; a number of instructions bounds what small values cost.
"""

import struct
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

# A dict hashes its keys: these types cannot be nested without end, and numbers up to this one are their own hashes.
_LARGEST_NUMBER_AS_KEY = 2**60
_MARK = object()


class BadPickle(ValueError):
    """The pickle is damaged, or contains something else than plain data."""


class Calls(ABC):
    """What a pickle may call.

    A pickle's values have no one type: they are Any here and in the reader, and are checked where they are used.
    """

    @abstractmethod
    def name(self, name: str) -> Any:
        """The value of MODULE.NAME. Raises BadPickle if a pickle may not name it."""

    @abstractmethod
    def call(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        """The result of a call. Raises BadPickle if the function or its arguments are not as expected."""

    @abstractmethod
    def set_state(self, value: Any, state: Any) -> None:
        """Complete a value, the result of a call. Raises BadPickle if it has no state, or another one."""

    def stored(self, reference: Any) -> Any:
        """The value that is stored outside the pickle. Raises BadPickle if there is none."""
        raise BadPickle("it refers to a value outside the file")


class PickleReader:
    """Reads the pickles in ``content``, one behind the other.

    max_instructions: of a pickle; about one for each number, text or container that is not in an array

    Byte strings of Python 2 become bytes. `position` is where the next pickle, or other data, begins.
    """

    def __init__(self, content: bytes, calls: Calls, *, max_instructions: int) -> None:
        self.position = 0
        self._content, self._calls, self._max_instructions = content, calls, max_instructions
        self._stack: list[Any] = []
        self._memory: dict[int, Any] = {}

    def read(self) -> Any:
        """The value of the next pickle. Raises BadPickle."""
        self._stack, self._memory = [], {}
        try:
            for _ in range(self._max_instructions):
                instruction = self._bytes(1)
                if instruction == b".":
                    return self._pop()
                if instruction not in _INSTRUCTIONS:
                    raise BadPickle(f"it has the instruction {instruction!r}, which plain data do not need")
                _INSTRUCTIONS[instruction](self)
            raise BadPickle(f"it has more than {self._max_instructions:,} values outside arrays")
        except BadPickle:
            raise
        except (ValueError, OverflowError) as error:  # of a number or a text in the file
            raise BadPickle(str(error)) from None

    def _bytes(self, count: int) -> bytes:
        if count < 0 or count > len(self._content) - self.position:
            raise BadPickle("it ends too early")
        start, self.position = self.position, self.position + count
        return self._content[start : self.position]

    def _unsigned(self, num_bytes: int) -> int:
        return int.from_bytes(self._bytes(num_bytes), "little")

    def _line(self) -> bytes:
        end = self._content.find(b"\n", self.position)
        return self._bytes((end if end >= 0 else len(self._content)) + 1 - self.position)[:-1]

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self) -> Any:
        if not self._stack or self._stack[-1] is _MARK:
            raise BadPickle("it takes a value that it does not have")
        return self._stack.pop()

    def _pop_to_mark(self) -> list[Any]:
        for index in range(len(self._stack) - 1, -1, -1):
            if self._stack[index] is _MARK:
                values = self._stack[index + 1 :]
                del self._stack[index:]
                return values
        raise BadPickle("it takes values that it does not have")

    def _pop_several(self, count: int) -> tuple[Any, ...]:
        return tuple(self._pop() for _ in range(count))[::-1]

    def _top(self, kind: type) -> Any:
        if not self._stack or type(self._stack[-1]) is not kind:
            raise BadPickle(f"it adds to something that is no {kind.__name__}")
        return self._stack[-1]

    def _append(self, values: list[Any]) -> None:
        self._top(list).extend(values)

    def _set_items(self, values: list[Any]) -> None:
        items = self._top(dict)
        if len(values) % 2:
            raise BadPickle("it has a key without a value")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not _may_be_key(key):
                raise BadPickle(f"it has a {type(key).__name__} as key of a dict, text or a small number was expected")
            items[key] = value

    def _decimal(self) -> int | bool:
        line = self._line()
        return {b"00": False, b"01": True}.get(line, int(line))

    def _quoted(self) -> bytes:
        line = self._line()
        if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b'"', b"'"):
            raise BadPickle("it has a text without quotes")
        return line[1:-1].decode("unicode_escape").encode("latin-1")

    def _name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise BadPickle("it has a name that is no text")
        self._push(self._calls.name(f"{module}.{name}"))

    def _call(self) -> None:
        function, arguments = self._pop_several(2)
        if not isinstance(arguments, tuple):
            raise BadPickle("it calls something without arguments")
        self._push(self._calls.call(function, arguments))

    def _build(self) -> None:
        value, state = self._pop_several(2)
        self._calls.set_state(value, state)
        self._push(value)

    def _remember(self, index: int) -> None:
        if not self._stack:
            raise BadPickle("it remembers a value that it does not have")
        self._memory[index] = self._stack[-1]

    def _recall(self, index: int) -> None:
        if index not in self._memory:
            raise BadPickle("it recalls a value that it does not have")
        self._push(self._memory[index])


def _may_be_key(key: Any) -> bool:
    return type(key) in (str, bytes) or type(key) is int and abs(key) < _LARGEST_NUMBER_AS_KEY


def _number(format_: str) -> Callable[[PickleReader], None]:
    def read(reader: PickleReader) -> None:
        reader._push(struct.unpack(format_, reader._bytes(struct.calcsize(format_)))[0])

    return read


def _sized(num_bytes: int, convert: Callable[[bytes], Any]) -> Callable[[PickleReader], None]:
    """Bytes behind their number, which has ``num_bytes`` bytes."""
    return lambda reader: reader._push(convert(reader._bytes(reader._unsigned(num_bytes))))


def _text(content: bytes) -> str:
    return content.decode("utf-8", "surrogatepass")


def _whole(content: bytes) -> int:
    return int.from_bytes(content, "little", signed=True)


# As the module pickletools of the standard library describes them.
_INSTRUCTIONS: dict[bytes, Callable[[PickleReader], None]] = {
    b"\x80": lambda reader: _skip(reader, 1),  # PROTO
    b"\x95": lambda reader: _skip(reader, 8),  # FRAME
    b"(": lambda reader: reader._push(_MARK),
    b"0": lambda reader: _drop(reader._pop()),
    b"1": lambda reader: _drop(reader._pop_to_mark()),
    b"N": lambda reader: reader._push(None),
    b"\x88": lambda reader: reader._push(True),
    b"\x89": lambda reader: reader._push(False),
    b"I": lambda reader: reader._push(reader._decimal()),
    b"L": lambda reader: reader._push(int(reader._line().removesuffix(b"L"))),
    b"F": lambda reader: reader._push(float(reader._line())),
    b"J": _number("<i"),
    b"K": _number("<B"),
    b"M": _number("<H"),
    b"G": _number(">d"),
    b"\x8a": _sized(1, _whole),
    b"\x8b": _sized(4, _whole),
    b"S": lambda reader: reader._push(reader._quoted()),
    b"T": _sized(4, bytes),
    b"U": _sized(1, bytes),
    b"B": _sized(4, bytes),
    b"C": _sized(1, bytes),
    b"\x8e": _sized(8, bytes),
    b"\x96": _sized(8, bytes),  # BYTEARRAY8, which nothing here changes
    b"V": lambda reader: reader._push(reader._line().decode("raw_unicode_escape")),
    b"X": _sized(4, _text),
    b"\x8c": _sized(1, _text),
    b"\x8d": _sized(8, _text),
    b"]": lambda reader: reader._push([]),
    b"l": lambda reader: reader._push(reader._pop_to_mark()),
    b"a": lambda reader: reader._append([reader._pop()]),
    b"e": lambda reader: reader._append(reader._pop_to_mark()),
    b")": lambda reader: reader._push(()),
    b"t": lambda reader: reader._push(tuple(reader._pop_to_mark())),
    b"\x85": lambda reader: reader._push(reader._pop_several(1)),
    b"\x86": lambda reader: reader._push(reader._pop_several(2)),
    b"\x87": lambda reader: reader._push(reader._pop_several(3)),
    b"}": lambda reader: reader._push({}),
    b"d": lambda reader: _new_dict(reader),
    b"s": lambda reader: reader._set_items(list(reader._pop_several(2))),
    b"u": lambda reader: reader._set_items(reader._pop_to_mark()),
    b"c": lambda reader: reader._name(_text(reader._line()), _text(reader._line())),
    b"\x93": lambda reader: reader._name(*reader._pop_several(2)),
    b"R": PickleReader._call,
    b"b": PickleReader._build,
    b"p": lambda reader: reader._remember(int(reader._line())),
    b"q": lambda reader: reader._remember(reader._unsigned(1)),
    b"r": lambda reader: reader._remember(reader._unsigned(4)),
    b"\x94": lambda reader: reader._remember(len(reader._memory)),
    b"g": lambda reader: reader._recall(int(reader._line())),
    b"h": lambda reader: reader._recall(reader._unsigned(1)),
    b"j": lambda reader: reader._recall(reader._unsigned(4)),
    b"Q": lambda reader: reader._push(reader._calls.stored(reader._pop())),
}


def _skip(reader: PickleReader, count: int) -> None:
    reader._bytes(count)


def _drop(_: object) -> None:
    pass


def _new_dict(reader: PickleReader) -> None:
    values = reader._pop_to_mark()
    reader._push({})
    reader._set_items(values)
