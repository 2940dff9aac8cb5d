"""Positions of consumers: told again and again, read by others, never half written."""

from pathlib import Path

from bus.positions import Position, told


def test_what_was_told_last_is_read(tmp_path: Path) -> None:
    directory = tmp_path / "positions"
    assert told(directory) == {}
    recorder, market = Position(directory, "recorder"), Position(directory, "market")
    assert told(directory) == {}, "a consumer that has told nothing yet holds nothing"
    recorder.tell(10**12)
    market.tell(0)
    recorder.tell(7)
    assert told(directory) == {"recorder": 7, "market": 0}
    for position in (recorder, market):
        position.close()
    again = Position(directory, "recorder")
    assert told(directory)["recorder"] == 7
    again.close()
