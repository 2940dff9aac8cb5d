"""Digests: the same alerts counted, what is shown bounded, nothing in them that steers a terminal."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from conf.alert_record import Alert
from persist.alert_digest import FOREIGN_ROWS_MAX, ROWS_MAX, SUBJECT_MAX, Digest, body, document, of, subject


def alert(text: str, *, process: str = "matcher", time: str = "10:00", dropped_count: int = 0) -> Alert:
    return Alert(time=time, instance="main", process=process, text=text, where="f.py:1(g)", dropped_count=dropped_count)


def test_one_alert() -> None:
    digest = of([alert("the disk is full")])
    assert subject(digest, "main") == "[main] matcher: the disk is full"
    assert body(digest) == "10:00\n  matcher: the disk is full\n  (main, f.py:1(g))\n\n"


def test_the_same_alerts_are_counted() -> None:
    digest = of([alert("full"), alert("empty", process="http"), alert("full", time="10:05")])
    assert subject(digest, "main") == "[main] matcher: full (and 2 more)"
    assert "10:00 to 10:05, 2 times\n  matcher: full" in body(digest)
    assert [(row["process"], row["count"], row["last_time"]) for row in document(digest, "main")["alerts"]] == [
        ("matcher", 2, "10:05"),
        ("http", 1, "10:00"),
    ]


def test_what_does_not_fit_is_told_by_its_number() -> None:
    digest = of([alert(f"text {number}") for number in range(ROWS_MAX + 312)])
    assert len(digest) == ROWS_MAX + 312
    assert "and 312 more" in body(digest)
    assert document(digest, "main")["more"] == 312
    assert len(document(digest, "main")["alerts"]) == ROWS_MAX


def test_strangers_do_not_crowd_out_the_exchanges_own() -> None:
    flood = [replace(alert(f"flood {number}"), origin="udp 10.0.0.7") for number in range(1_000)]
    digest = of([*flood, alert("the disk is full"), *flood])
    assert subject(digest, "main").startswith("[main] matcher: the disk is full")
    assert "matcher: the disk is full" in body(digest)
    assert len(digest.rows) == FOREIGN_ROWS_MAX + 1
    assert (digest.count, digest.more_count) == (2_001, 2 * (1_000 - FOREIGN_ROWS_MAX))


def test_who_takes_the_words_of_the_exchange_is_another_row() -> None:
    own = alert("full")
    assert [row.count for row in of([own, replace(own, origin="bus"), own]).rows] == [2, 1]


def test_what_was_dropped_before_is_summed_up() -> None:
    digest = of([alert("a", dropped_count=9_000), alert("b", dropped_count=500)])
    assert document(digest, "main")["dropped"] == 9_500
    assert "9,500 alerts from outside came too fast and were dropped" in body(digest)


def test_nothing_in_it_steers_a_terminal_or_makes_a_line() -> None:
    digest = of([alert("a\x1b[2Jb\r\nBcc: x@example.com\udcff", process="p\x07q")])
    assert subject(digest, "main") == "[main] p�q: a�[2Jb Bcc: x@example.com�"
    assert all(letter == "\n" or letter.isprintable() for letter in body(digest))


@given(st.lists(st.text(max_size=400), min_size=1, max_size=20))
def test_what_is_shown_is_bounded(texts: list[str]) -> None:
    digest = Digest()
    for text in texts:
        digest.add(alert(text * 50))
    line = subject(digest, "main")
    assert len(line) <= SUBJECT_MAX
    assert line.isprintable()
    assert sum(row.count for row in digest.rows) + digest.more_count == len(texts) == len(digest)
