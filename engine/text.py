"""Source and business names inside the kernels: 32 bytes, UTF-8 in front, zeros behind.

The check is the kernels' own, because what a gateway lets through can come from a bot too. Names are plain ASCII but
for the odd one, so all 16 bytes of a half are looked at in one step (Mycroft's test for a zero byte).
"""

from bus.messages import TEXT_MAX
from engine.kernel import kernel
from engine.schema import Row
from engine.wide import load_bytes, wide

HALF = 16
ONES = 0x0101010101010101
HIGHS = 0x8080808080808080 - (1 << 64)  # as an i8


@kernel
def doubled(pattern: int) -> int:
    """An i8's bytes twice, as a wide."""
    low = wide(pattern) & ((wide(1) << wide(64)) - wide(1))
    return low | (low << wide(64))


@kernel
def below(size: int) -> int:
    """A mask of the first `size` bytes of a half: 0 to 16, more or less is the same as that."""
    if size <= 0:
        return wide(0)
    if size >= HALF:
        return wide(0) - wide(1)
    return (wide(1) << wide(8 * size)) - wide(1)


@kernel
def is_plain(half: int, size: int) -> bool:
    """Whether the first `size` bytes of a half are ASCII without NUL."""
    mask = below(size)
    ones, highs = doubled(ONES), doubled(HIGHS)
    shown = (half & mask) | (ones & (mask ^ (wide(0) - wide(1))))
    zeros = (shown - ones) & (shown ^ (wide(0) - wide(1))) & highs
    return ((shown & highs) | zeros) == wide(0)


@kernel
def is_text(row: Row, size: int) -> bool:
    """Whether the first `size` bytes of a COMMAND's text are well-formed UTF-8 without NUL, and not too many."""
    if size < 0 or size > TEXT_MAX:
        return False
    if is_plain(load_bytes(row, "text", 0), size) and is_plain(load_bytes(row, "text", 16), size - HALF):
        return True
    return is_utf8(row["text"], size)


@kernel
def is_utf8(text: Row, size: int) -> bool:
    """Whether the first `size` bytes are well-formed (RFC 3629) and none is NUL."""
    place = 0
    while place < size:
        first = text[place]
        place += 1
        if first == 0 or (0x80 <= first < 0xC2) or first > 0xF4:
            return False
        following = 0 if first < 0x80 else 1 if first < 0xE0 else 2 if first < 0xF0 else 3
        if following > size - place:
            return False
        for step in range(following):
            least, most = 0x80, 0xBF
            if step == 0 and first == 0xE0:
                least = 0xA0
            elif step == 0 and first == 0xED:
                most = 0x9F
            elif step == 0 and first == 0xF0:
                least = 0x90
            elif step == 0 and first == 0xF4:
                most = 0x8F
            if text[place] < least or text[place] > most:
                return False
            place += 1
    return True
