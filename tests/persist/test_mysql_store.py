"""The writer of MySQL: what it stores is what the twin of the tables says, once, whatever happens."""

import pytest

from conf.settings import Settings
from persist.mysql_store import MySqlWriter
from tests.persist import making
from tests.persist.mariadb import stored
from tests.reference.history import history_of


@pytest.mark.parametrize("seed", range(3))
def test_tables_are_those_of_the_twin(history: Settings, seed: int) -> None:
    frames, catalog = making.random_play(seed)
    writer = MySqlWriter(history)
    assert writer.open() == 0
    for part in making.in_parts(frames, seed):
        writer.write(part, catalog)
    writer.close()
    wanted = history_of(frames, catalog).tables
    assert stored(history) == wanted
