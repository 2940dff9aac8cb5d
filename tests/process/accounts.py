"""What a history must hold: that of the twin in plain Python, made of all events of an exchange."""

from bus import catalog
from conf.settings import Settings
from engine.retelling import Events
from persist.opening import reader_of
from persist.store import Change, Deal, Order, Times
from tests.process.exchange import Running
from tests.reference.history import History, history_of

ALWAYS = Times(0, 0)
EVERYBODY = 0
STEPS_MAX = 1_000_000


def twin_of(running: Running, last_number: int) -> History:
    """The history after event `last_number`; what the event log lacks is made again."""
    with running.client() as client:
        listed = catalog.ask(client)
    frames = []
    with Events(running.settings, after_number=0) as events:
        for _ in range(STEPS_MAX):
            if (frame := events.receive(timeout_ms=100)) is not None:
                frames.append(frame)
            if events.last_number >= last_number:
                return history_of(frames, listed)
    raise AssertionError(f"no event came after {events.last_number}")


def check_history(running: Running) -> int:
    """Wait until all is stored; then the store holds each row of the twin once, and nothing else. How many rows."""
    twin = twin_of(running, running.wait_stored("recorder"))
    orders, deals, changes = stored(running.settings)
    assert orders == sorted(Order(*row.values()) for row in twin.of_family("order_detail"))
    assert deals == sorted(Deal(**row) for row in twin.of_family("user_deal_history"))
    users = {row["user_id"] for row in twin.of_family("balance_history")}
    assert changes.keys() == users
    for user_id in users:
        assert changes[user_id] == [Change(**row) for row in twin.of_user("balance_history", user_id)], user_id
    return len(orders) + len(deals) + sum(map(len, changes.values()))


def stored(settings: Settings) -> tuple[list[Order], list[Deal], dict[int, list[Change]]]:
    """Orders and deals sorted, and each user's changes in their order."""
    reader = reader_of(settings)
    try:
        orders = sorted(reader.all_orders(EVERYBODY, "", ALWAYS))
        deals = sorted(reader.all_deals(EVERYBODY, "", ALWAYS))
        changes: dict[int, list[Change]] = {}
        for change in reader.all_changes(EVERYBODY, "", ALWAYS):
            changes.setdefault(change.user_id, []).append(change)
    finally:
        reader.close()
    return orders, deals, changes
