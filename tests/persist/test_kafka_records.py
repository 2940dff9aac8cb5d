"""Batches of messages, read back by kafka-python."""

from hypothesis import given
from hypothesis import strategies as st
from kafka.record import MemoryRecords

from persist.kafka_link import Message, read
from persist.kafka_records import SEQUENCE_END, Producer, after, batch

TIME_MS = 1_795_403_433_123
PRODUCER = Producer(7, 2)
SIZES = st.one_of(st.integers(0, 300), st.sampled_from([8_190, 8_191, 8_192, 70_000]))


@given(st.lists(SIZES, min_size=1, max_size=200))
def test_a_batch_is_what_kafka_python_reads(sizes: list[int]) -> None:
    values = [bytes([index % 256]) * size for index, size in enumerate(sizes)]
    found = MemoryRecords(batch(values, TIME_MS, PRODUCER, 41)).next_batch()
    assert found.validate_crc()
    assert (found.producer_id, found.producer_epoch, found.base_sequence) == (*PRODUCER, 41)
    assert (found.records_count, found.next_offset, found.compression_type) == (len(values), len(values), 0)
    rows = list(found)
    assert [row.value for row in rows] == values
    assert all(row.key is None and row.headers == [] and row.timestamp == TIME_MS for row in rows)


def test_a_fetch_gives_what_lies_behind_its_offset() -> None:
    data = batch([b"a", b"b", b"c"], TIME_MS, PRODUCER, 0)
    assert read(data, 1, 3) == ([Message(1, b"b", PRODUCER, 1), Message(2, b"c", PRODUCER, 2)], 3, 3)
    assert read(data + data[:20], 0, 3).next_offset == 3  # a broker breaks off where it likes
    assert read(b"", 5, 9) == ([], 5, 9)


def test_sequences_begin_again() -> None:
    assert after(SEQUENCE_END - 2, 5) == 3
