"""ViaBTC's messages in Kafka: the recorded ones, byte for byte, and each once, whatever is killed."""

import json
from pathlib import Path

from tests.golden import player
from tests.process.broker import Broker
from tests.process.test_golden import check, played

RECORDED = player.FOLDER / "side-31" / "kafka.jsonl"
TOPICS = ("deals", "orders", "balances")


def recorded() -> dict[str, list[str]]:
    """What the original left in each topic, in order."""
    found: dict[str, list[str]] = {topic: [] for topic in TOPICS}
    for line in RECORDED.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found[row["topic"]].append(row["value"])
    return found


def test_the_messages_are_the_recorded_ones_and_so_is_every_reply(tmp_path: Path, broker: Broker) -> None:
    begin = broker.ends(*TOPICS)
    path = RECORDED.parent.with_suffix(".jsonl")
    check(played(path, tmp_path, kafka={"brokers": broker.address}), path)
    for topic, values in recorded().items():
        found = [value.decode() for value in broker.read(topic, begin[topic], len(values))]
        assert list(map(player.masked, found)) == list(map(player.masked, values)), topic
        assert len(broker.rest(topic, begin[topic])) == len(values)
