"""What a user is told of his own: order.update and asset.update, with the event's number for who asked for it."""

from collections.abc import Iterable, Mapping

from bus.catalog import Catalog
from bus.messages import EVENT, QueryKind, Records
from bus.orders import order_text
from gateways import replies
from gateways.state import State
from gateways.ws.frames import Message
from gateways.ws.publisher import Follower
from gateways.ws.topics import Channel

_ORDER_AT: int = EVENT.fields["order"][1]  # type: ignore[index]  # named: numpy's stub allows None


def followers_of(followers: Iterable[Follower], channel: Channel, name: str) -> list[Follower]:
    """Those who follow a market's orders, or an asset."""
    return [follower for follower in followers if name in follower.session.names(channel)]


def push_order(
    followers: Iterable[Follower], event: Records, catalog: Catalog, *, is_numbered: bool | None = None
) -> int:
    """Push one event of an order, in an array of its own; to how many.

    `is_numbered` says whether they get its number; by default it is as each wanted it.
    """
    told = f"{event['kind'][0]}, {order_text(event.tobytes(), _ORDER_AT, catalog.market_by_index)}"
    return _push(Channel.ORDER, told, followers, int(event["number"][0]), is_numbered)


def balances(state: State, user_id: int, wanted: Iterable[str]) -> dict[str, str]:
    """The text of balances as they are now, by asset. Raises NotConnected, TimedOut."""
    catalog = state.catalog()
    records = state.answer(QueryKind.BALANCES, user_id=user_id).records
    return {name: replies.balances(records, [catalog.asset_by_name[name]]) for name in wanted}


def push_balances(
    followers: Iterable[Follower],
    texts: Mapping[str, str],
    number: int,
    number_before: int,
    *,
    is_numbered: bool | None = None,
) -> int:
    """Push balances, one a message; how many messages.

    Only the last one carries `number`, up to which all is told then. The others carry that from before: a client that
    is cut off between two of them must not go on after the second.
    """
    followers = list(followers)
    numbers = [*[number_before] * (len(texts) - 1), number]
    return sum(
        _push(Channel.ASSET, told, followers, each, is_numbered)
        for told, each in zip(texts.values(), numbers, strict=True)
    )


def _push(channel: Channel, told: str, followers: Iterable[Follower], number: int, is_numbered: bool | None) -> int:
    plain = numbered = None
    followers = list(followers)
    for follower in followers:
        if channel in follower.session.numbered if is_numbered is None else is_numbered:
            numbered = numbered or Message(_update(channel, f"{told}, {number}"))
            follower.push(numbered)
        else:
            plain = plain or Message(_update(channel, told))
            follower.push(plain)
        follower.flush()
    return len(followers)


def _update(channel: Channel, params: str) -> str:
    return f'{{"method": "{channel}.update", "params": [{params}], "id": null}}'
