r"""A line as words, and a word as a user's number: both as the original reads them (CONTRACT 9.3).

    balance get 17          three words
    balance "list" 'A B'    three words: quotes keep blanks together
    "a\x41\n"               within double quotes: \xHH is a byte, \n \r \t \b \a are control characters, \c is c
    'it\'s'                 within single quotes: only the quote itself can be written so
    status\0junk            what follows a NUL byte is not there

A quote that is not closed, or is followed by something other than a blank, spoils the line: it has no answer.
"""

import re

USER_MASK = 0xFFFFFFFF  # a user's number has 32 bits: of a larger one those count
NUMBER_MAX = (1 << 64) - 1  # what a number too large to be one becomes

_BLANKS = b" \t\n\v\f\r"
_BARE, _DOUBLE, _SINGLE = b"", b'"', b"'"
_CONTROLS = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}
_PIECES = {  # what a word consists of, by the quote that it is in
    _BARE: re.compile(rb"[^ \t\n\r\"']+"),  # it goes on over \v and \f
    _DOUBLE: re.compile(rb'\\x(?P<hex>[0-9a-fA-F]{2})|\\(?P<escaped>.)|(?P<plain>[^"\\]+|\\)', re.DOTALL),
    _SINGLE: re.compile(rb"\\(?P<escaped>')|(?P<plain>[^'\\]+|\\)", re.DOTALL),
}
_number = re.compile(
    rb"[ \t\n\v\f\r]*(?P<sign>[+-]?)(?:0[xX](?P<hex>[0-9a-fA-F]+)|(?P<octal>0[0-7]*)|(?P<decimal>[0-9]+))"
).match


def words(line: bytes) -> list[bytes] | None:
    """The words of a line; None when its quotes make no sense."""
    text = line.partition(b"\0")[0].lstrip(_BLANKS)
    found = []
    while text:
        taken = _word(text)
        if taken is None:
            return None
        word, text = taken
        found.append(word)
        text = text.lstrip(_BLANKS)
    return found


def _word(text: bytes) -> tuple[bytes, bytes] | None:
    """The first word of a text that begins with one, and what follows it."""
    bare = _PIECES[_BARE].match(text)
    word = bare[0] if bare else b""
    rest = text[len(word) :]
    quote = rest[:1]
    if quote not in (_DOUBLE, _SINGLE):
        return word, rest
    at = 1
    while piece := _PIECES[quote].match(rest, at):
        word += _meant(piece)
        at = piece.end()
    after = rest[at + 1 : at + 2]
    if rest[at : at + 1] != quote or (after and after not in _BLANKS):
        return None
    return word, rest[at + 1 :]


def _meant(piece: "re.Match[bytes]") -> bytes:
    """What a piece of a quoted word stands for."""
    parts = piece.groupdict()
    if parts.get("hex"):
        return bytes([int(parts["hex"], 16)])
    if escaped := parts.get("escaped"):
        return _CONTROLS.get(escaped, escaped) if piece.re is _PIECES[_DOUBLE] else escaped
    return parts["plain"]


def user_number(word: bytes) -> int:
    """The user that a word names, as C's strtoul with base 0 and a cut to 32 bits have it; 0 when it is no number."""
    found = _number(word)
    if found is None:
        return 0
    if found["hex"]:
        number = int(found["hex"], 16)
    elif found["octal"]:
        number = int(found["octal"], 8)
    else:
        number = int(found["decimal"])
    if number > NUMBER_MAX:
        number = NUMBER_MAX
    elif found["sign"] == b"-":
        number = -number
    return number & USER_MASK
