"""The player of WebSocket recordings notices what is wrong, missing, repeated or not asked for, and nothing else.

Here the recording plays the server too: `played` says its frames, or others in their place.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.golden import player, ws_player
from tests.golden.ws_player import Depth, Kline, Latest, Odd, Recording, Row, Session

RECORDINGS = {path.stem: ws_player.load(path) for path in player.files("ws")}
RECORDING = RECORDINGS["ws-21"]
SUCCESS = {"error": None, "result": {"status": "success"}}
NEVER = "a connection that is not there"


def played(recording: Recording, said: dict[int, list[str]] | None = None) -> str:
    """What the player finds first, when at these rows these frames come instead of the recorded one."""
    sessions: dict[str, Session] = {}
    for index, row in enumerate([*recording.rows, {"end": True}]):
        if ws_player.is_act(row):
            got, at = ws_player.moment(sessions).state, recording.moments[index]
            odd = [trouble for session in sessions.values() for trouble in session.odd]
            different = ws_player.differences(got, recording.window(index), at.young)
            if odd or different:
                return ws_player.told(odd, different)
        session = sessions.setdefault(row.get("conn", NEVER), Session(row.get("conn", NEVER)))
        own_reply = None
        if "send" in row:
            session.send(row["send"])
            own_reply = recording.own_reply(index)
        for text in (said or {}).get(index, [row["recv"]] if "recv" in row else [own_reply] if own_reply else []):
            session.receive(text)
    return ""


def notifications(recording: Recording, *channels: str) -> Iterator[tuple[int, str]]:
    """The rows that push something on these channels, and their frames."""
    methods = {f"{channel}.update" for channel in channels}
    for index, row in enumerate(recording.rows):
        if "recv" in row and json.loads(row["recv"]).get("method") in methods:
            yield index, row["recv"]


def notification(method: str, params: list[Any]) -> str:
    return json.dumps({"method": method, "params": params, "id": None})


def made(*rows: Row) -> Recording:
    return Recording(list(rows))


def sent(number: int, method: str, *params: object) -> Row:
    return {"conn": "pub", "send": json.dumps({"id": number, "method": method, "params": params})}


def received(text: str) -> Row:
    return {"conn": "pub", "recv": text}


def success(number: int) -> Row:
    return received(json.dumps({**SUCCESS, "id": number}))


def pushed(method: str, *params: object) -> Row:
    return received(notification(method, [*params]))


CALLED: Row = {"http": "{}", "reply": "{}"}


@pytest.mark.parametrize("recording", RECORDINGS.values(), ids=RECORDINGS)
def test_a_recording_agrees_with_itself_and_breaks_no_rule(recording: Recording) -> None:
    assert recording.odd == []
    assert played(recording) == ""


@pytest.mark.parametrize("channel", sorted(ws_player.CHANNELS))
def test_each_missing_notification_is_noticed(channel: str) -> None:
    rows = [*notifications(RECORDING, channel)]
    unnoticed = [text for index, text in rows if not played(RECORDING, {index: []})]
    assert rows
    if channel == "asset":  # a repeat may be left out
        assert len(unnoticed) < len(rows)
    else:
        assert unnoticed == []


@pytest.mark.parametrize("channel", sorted({*ws_player.CHANNELS} - {"asset"}))
def test_each_repeated_notification_is_noticed(channel: str) -> None:
    assert [
        text for index, text in notifications(RECORDING, channel) if not played(RECORDING, {index: [text] * 2})
    ] == []


@pytest.mark.parametrize(
    ("channel", "old", "new"),
    [
        ("order", '"left": "', '"left": "1'),
        ("order", '"params": [', '"params": [1'),
        ("asset", '"freeze": "', '"freeze": "1'),
        ("price", 'USD", "', 'USD", "1'),
        ("price", '"]', '0"]'),
        ("state", '"deal": "', '"deal": "1'),
        ("today", '"open": "', '"open": "1'),
        ("deals", '"amount": "', '"amount": "1'),
        ("deals", '"id": ', '"id": 1'),
        ("depth", "[false, ", "[true, "),
        ("depth", '"BTCUSD"', '"ETHUSD"'),
        ("depth", '[["', '[["1'),
        ("kline", '"BTCUSD"', '"ETHUSD"'),
        ("kline", '"99.3"', '"99.4"'),
        ("order", '"params": [', '"params":['),
        ("deals", ', "id": null}', ',  "id": null}'),
        ("price", ', "id": null}', ', "id": null, "more": 1}'),
        ("state", ', "id": null}', "}"),
        ("today", '{"method"', '{"id": null, "method"'),
        ("order", "order.update", "orders.update"),
    ],
)
def test_each_changed_notification_is_noticed(channel: str, old: str, new: str) -> None:
    changed = {index: text.replace(old, new) for index, text in notifications(RECORDING, channel) if old in text}
    assert changed
    assert [text for index, text in changed.items() if not played(RECORDING, {index: [text]})] == []


@pytest.mark.parametrize("text", ["pong", "[]", '{"method": "price.update", "params": {}, "id": null}', "{}"])
def test_a_frame_that_is_nothing_is_noticed(text: str) -> None:
    index, recorded = next(notifications(RECORDING, "price"))
    assert "misshapen" in played(RECORDING, {index: [recorded, text]})


def test_a_missing_or_other_reply_is_noticed() -> None:
    replies = [index for index, row in enumerate(RECORDING.rows) if "recv" in row and '"error": ' in row["recv"]]
    assert len(replies) > 40
    for index in replies:
        assert "replies" in played(RECORDING, {index: []})
        assert "replies" in played(RECORDING, {index: [RECORDING.rows[index]["recv"].replace(": ", ":", 1)]})


def test_silence_after_an_unknown_method_is_noticed() -> None:
    (index,) = [index for index, row in enumerate(RECORDING.rows) if "send" in row and RECORDING.own_reply(index)]
    assert "method not found" in played(RECORDING, {index: []})


def test_what_comes_for_a_channel_that_is_no_longer_subscribed_is_noticed() -> None:
    ended = made(sent(1, "price.subscribe", "BTCUSD"), success(1), sent(2, "price.unsubscribe"), success(2))
    assert played(ended) == ""
    late = pushed("price.update", "BTCUSD", "1")["recv"]
    assert "a channel that is subscribed" in played(ended, {3: [success(2)["recv"], late]})


def test_balances_may_be_coalesced() -> None:
    values = [notification("asset.update", [{"USD": {"available": text, "freeze": "0"}}]) for text in "1123"]
    begin = [sent(1, "asset.subscribe", "USD"), success(1), CALLED]
    recording = made(*begin, *map(received, values))
    assert played(recording) == ""
    assert played(recording, {3: [], 4: [], 5: []}) == ""
    assert "asset USD" in played(recording, {6: []})
    assert "asset USD" in played(recording, {4: [values[2]], 5: [values[0]]})


def test_we_may_push_before_the_next_frames_of_the_clients_but_not_before_an_http_call() -> None:
    first, later = (pushed("state.update", "BTCUSD", {"last": text}) for text in ("0", "1"))
    begin = [sent(1, "state.subscribe", "BTCUSD"), success(1), *[sent(2, "nope"), sent(3, "nope")] * 2, first]
    recording = made(*begin, CALLED, later)
    assert played(recording) == ""
    assert played(recording, {1: [success(1)["recv"], first["recv"]], 6: []}) == ""
    assert "state BTCUSD" in played(recording, {6: [first["recv"], later["recv"]], 8: []})


def test_a_subscription_younger_than_a_poll_may_have_been_told_what_was_not_recorded() -> None:
    """The first poll came after the call and saw only what it led to, or found that nobody listened any more."""
    first, later = (pushed("state.update", "BTCUSD", {"last": text}) for text in ("0", "1"))
    begin, early = [sent(1, "state.subscribe", "BTCUSD"), success(1)], {1: [success(1)["recv"], first["recv"]]}
    assert played(made(*begin, CALLED, later), early) == ""
    assert played(made(*begin, sent(2, "state.unsubscribe"), success(2), CALLED), early) == ""
    assert "state BTCUSD" in played(made(*begin, CALLED, CALLED), early)
    assert "state BTCUSD" in played(made(*begin, *[sent(2, "nope")] * 4), early)


def test_deals_come_again_with_another_subscription_only() -> None:
    deal = pushed("deals.update", "BTCUSD", [{"id": 7}])
    begin = [sent(1, "deals.subscribe", "BTCUSD"), success(1), deal]
    assert made(*begin, sent(2, "deals.subscribe", "BTCUSD"), success(2), deal).odd == []
    assert "each deal once" in str(made(*begin, deal).odd)
    assert "newest first" in str(made(*begin, pushed("deals.update", "BTCUSD", [{"id": 8}, {"id": 9}])).odd)


def test_of_a_set_with_a_bad_name_the_names_before_it_are_subscribed() -> None:
    refused = received(json.dumps({"error": {"code": 1, "message": "invalid argument"}, "result": None, "id": 1}))
    begin = [sent(1, "price.subscribe", "BTCUSD", 5, "ETHUSD"), refused]
    assert made(*begin, pushed("price.update", "BTCUSD", "1")).odd == []
    assert "only of what was subscribed" in str(made(*begin, pushed("price.update", "ETHUSD", "1")).odd)


def test_a_frame_that_is_no_request_must_close_the_connection() -> None:
    recording = made({"conn": "pub", "send": "what?"}, {"conn": "pub", "closed": True})
    assert "closed" in played(recording)


def book(*pushes: tuple[bool, dict[str, list[list[str]]]], limit: int = 2) -> Any:
    """The book that these pushes make."""
    depth = Depth(["BTCUSD", limit, "0"])
    for clean, sides in pushes:
        depth.push([clean, sides, "BTCUSD"], "")
    return depth.values["BTCUSD"]


FULL = (True, {"asks": [["3", "1"], ["4", "1"]], "bids": [["2", "1"], ["1", "1"]]})


@pytest.mark.parametrize(
    ("sides", "wanted"),
    [
        ({"asks": [["3.5", "2"]]}, ((("3", "1"), ("3.5", "2")), (("2", "1"), ("1", "1")))),
        ({"bids": [["2", "0"], ["0.5", "7"]]}, ((("3", "1"), ("4", "1")), (("1", "1"), ("0.5", "7")))),
        ({"asks": [["3", "0"], ["4", "0"]], "bids": [["1", "5"]]}, ((), (("2", "1"), ("1", "5")))),
    ],
)
def test_differences_change_the_book_and_what_is_beyond_the_limit_falls_off(sides: Any, wanted: Any) -> None:
    assert book(FULL, (False, sides)) == wanted


@pytest.mark.parametrize(
    ("pushes", "rule"),
    [
        ([(False, {"asks": [["3", "1"]]})], "true at first"),
        ([(True, {"asks": []})], "a clean push has"),
        ([(True, {"asks": [["4", "1"], ["3", "1"]], "bids": []})], "the order of the book"),
        ([(True, {"asks": [["3", "1"], ["4", "1"], ["5", "1"]], "bids": []})], "than the limit"),
        ([FULL, FULL], "only on change"),
        ([FULL, (False, {})], "the changed sides"),
        ([FULL, (False, {"bids": [["1", "2"]], "asks": [["3", "2"]]})], "asks first"),
        ([FULL, (False, {"asks": []})], "changed levels"),
        ([FULL, (False, {"asks": [["3", "1"]]})], "another amount"),
        ([FULL, (False, {"asks": [["5", "0"]]})], "was there"),
        ([FULL, (False, {"asks": [["5", "0.0"]]})], "positive"),
        ([FULL, (False, {"asks": [["5", "1"]]})], "only on change"),
        ([FULL, (False, {"bids": [["1", "2"], ["2", "2"]]})], "the order of the book"),
    ],
)
def test_a_push_that_breaks_a_rule_of_depth_is_noticed(pushes: Any, rule: str) -> None:
    with pytest.raises(Odd, match=rule):
        book(*pushes)


def kline(*pushes: list[list[Any]]) -> Any:
    channel = Kline(["BTCUSD", 60])
    for rows in pushes:
        channel.push(rows, "")
    return [str(value) for value in channel.values["BTCUSD"]]


def test_rows_add_up_to_the_same_wherever_buckets_begin() -> None:
    one = kline([[60, "1", "1", "1", "1", "5", "5", "BTCUSD"]], [[60, "1", "3", "3", "1", "7", "11", "BTCUSD"]])
    first, last = [60, "1", "1", "1", "1", "5", "5", "BTCUSD"], [180, "3", "3", "3", "3", "2", "6", "BTCUSD"]
    empty = [120, "1", "1", "1", "1", "0", "0", "BTCUSD"]
    assert one == ["1", "3", "3", "1", "7", "11"]
    assert kline([first], [first, empty], [empty, last]) == one
    with pytest.raises(Odd, match="the last row changes"):
        kline([first], [first])
    with pytest.raises(Odd, match="order of time"):
        kline([last, first])


def test_a_value_is_pushed_only_on_change() -> None:
    latest = Latest(["BTCUSD"])
    for text in ("1", "2", "1"):
        latest.push(["BTCUSD", text], text)
    with pytest.raises(Odd, match="only on change"):
        latest.push(["BTCUSD", "1"], "1")
    with pytest.raises(Odd, match="only of what was subscribed"):
        latest.push(["ETHUSD", "1"], "1")


def test_a_difference_says_where_it_is() -> None:
    index = next(index for index, row in enumerate(RECORDING.rows) if "pong" in row.get("recv", ""))
    said = played(RECORDING, {index: [RECORDING.rows[index]["recv"].replace("pong", "gong")]})
    assert said.startswith("pub, replies")
    assert "the first 0 agree" in said
    assert '"result": "gong"' in said
