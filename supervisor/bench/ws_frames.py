"""WebSocket as a benchmark's client needs it: a handshake and requests as bytes, and frames counted by their headers.

Pure. It trusts the server, whose frames are not masked: what comes out of order shows in the counts.
"""

import json
import struct
from typing import Any

HANDSHAKE_END = b"\r\n\r\n"
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dHJhZGVwaXQtYmVuY2gtLQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
ACCEPTED = b"HTTP/1.1 101"
SUCCESS = b'{"status": "success"}'  # the result of every request that is sent here
REFUSED = b'{"error": {'
_SHORT, _MEDIUM = 125, 126  # a length of one byte at most; one of two bytes follows
HEAD_SIZE = 4  # of a frame of 126 bytes and more
_TEXT, _MASKED = 0x81, 0x80
_DATA_SEGMENTS_IN = struct.Struct("152xI")  # tcpi_data_segs_in of linux/tcp.h's struct tcp_info

Bytes = bytes | bytearray | memoryview


def request(method: str, *params: Any) -> bytes:
    """A request of a client in a frame, masked with zeros."""
    body = json.dumps({"id": 1, "method": method, "params": params}).encode()
    size = len(body)
    length = bytes((_MASKED | size,)) if size <= _SHORT else struct.pack("!BH", _MASKED | _MEDIUM, size)
    return bytes((_TEXT,)) + length + bytes(4) + body


def end_of_frame(data: Bytes, start: int, end: int) -> int:
    """Where the frame ends that begins at `start`; beyond `end` if it is not whole."""
    if end - start < 2:
        return end + 1
    size = data[start + 1]
    if size <= _SHORT:
        return start + 2 + size
    head_size = 4 if size == _MEDIUM else 10
    if end - start < head_size:
        return end + 1
    return start + head_size + int.from_bytes(data[start + 2 : start + head_size], "big")


def walk(data: Bytes, end: int) -> tuple[int, int]:
    """How many whole frames `data[:end]` begins with, and where what is left begins."""
    count = start = 0
    while True:
        if start + HEAD_SIZE <= end and data[start + 1] == _MEDIUM:  # nearly always, and much quicker
            after = start + HEAD_SIZE + (data[start + 2] << 8) + data[start + 3]
        else:
            after = end_of_frame(data, start, end)
        if after > end:
            return count, start
        count += 1
        start = after


def state_of(tcp_info: bytes) -> int:
    """Of a socket's TCP_INFO: the state."""
    return tcp_info[0]


def segment_count(tcp_info: bytes) -> int:
    """Of a socket's TCP_INFO: how many segments with data have come, on the loopback as many as were sent."""
    return int(_DATA_SEGMENTS_IN.unpack_from(tcp_info)[0])
