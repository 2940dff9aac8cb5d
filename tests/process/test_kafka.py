"""ViaBTC's messages in Kafka: the recorded ones, byte for byte, and each once, whatever is killed."""

import json
from pathlib import Path

from tests.golden import player
from tests.process.broker import Broker
from tests.process.test_golden import check, played

RECORDED = player.FOLDER / "side-31" / "kafka.jsonl"
TOPICS = ("deals", "orders", "balances")
ASK = 1


def recorded() -> dict[str, list[str]]:
    """What the original left in each topic, in order."""
    found: dict[str, list[str]] = {topic: [] for topic in TOPICS}
    for line in RECORDED.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found[row["topic"]].append(row["value"])
    return found


def maker_times(deals: list[str], orders: list[str]) -> list[bool]:
    """Of each deal, whether a message of its maker's order has the same time."""
    times = {(order["id"], order["mtime"]) for order in (json.loads(text)["order"] for text in orders)}
    makers = [(row[3] if row[10] == ASK else row[2], row[0]) for row in map(json.loads, deals)]
    return [maker in times for maker in makers]


def test_the_messages_are_the_recorded_ones_and_so_is_every_reply(tmp_path: Path, broker: Broker) -> None:
    begin = broker.ends(*TOPICS)
    path = RECORDED.parent.with_suffix(".jsonl")
    check(played(path, tmp_path, kafka={"brokers": broker.address}), path)
    own: dict[str, list[str]] = {}
    for topic, values in recorded().items():
        found = [value.decode() for value in broker.read(topic, begin[topic], len(values))]
        assert list(map(player.masked, found)) == list(map(player.masked, values)), topic
        assert len(broker.rest(topic, begin[topic])) == len(values)
        own[topic] = found
    assert all(maker_times(recorded()["deals"], recorded()["orders"]))
    assert all(maker_times(own["deals"], own["orders"]))
