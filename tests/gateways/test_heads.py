"""The head of a reply (CONTRACT 1.1)."""

from gateways.heads import JSON, Cors, Heads, date


def test_the_month_of_a_date_has_its_full_name() -> None:
    assert date(1629872796.9) == "Wed, 25 August 2021 06:26:36 GMT"
    assert date(0) == "Thu, 01 January 1970 00:00:00 GMT"


def test_a_head_has_the_date_of_its_second() -> None:
    now = [1629872796.0]
    heads = Heads(lambda: now[0])
    first = b"HTTP/1.1 200 OK\r\nDate: Wed, 25 August 2021 06:26:36 GMT\r\nContent-Length: 5\r\n\r\n"
    assert heads.head(200, 5) == first
    now[0] += 0.999
    assert heads.head(200, 5) == first
    now[0] += 0.002
    assert heads.head(200, 5) == first.replace(b":36 GMT", b":37 GMT")
    assert heads.head(504, 0, JSON).endswith(b"Content-Length: 0\r\nContent-Type: application/json\r\n\r\n")


def test_origins() -> None:
    assert Cors([]).lines(b"https://a") == b""
    assert Cors(["https://a"]).lines(b"https://b") == b""
    assert Cors(["https://a"]).lines(b"https://a") == b"Access-Control-Allow-Origin: https://a\r\nVary: Origin\r\n"
    assert Cors(["*"]).lines(b"https://b") == b"Access-Control-Allow-Origin: https://b\r\nVary: Origin\r\n"
