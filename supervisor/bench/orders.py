"""Order flow for benchmarks: COMMAND arrays that fund users, fill a book and trade, the same for the same seed.

All of it is on the first market of conf/markets.json, unless more are asked for; they have the same precisions.
Prices are in ticks of 1 whole unit of money around `MID_TICKS`, amounts in hundredths of the stock; takers pay 0.2 %,
makers 0.1 %.
"""

import numpy as np

from bus.messages import COMMAND, CommandKind, Records, Side
from conf import markets
from conf.settings import DEFAULT_MARKETS_FILE

USER_COUNT = 1_000
MID_TICKS = 200_000
SPREAD_TICKS = 50  # trading orders cross the mid by up to so much
FUNDS_WHOLE = 10**9  # of each asset, for each user

LISTING = markets.load(DEFAULT_MARKETS_FILE)
MARKET = LISTING.markets[0]
TICK_UNITS = 10**MARKET.money_prec
LOT_UNITS = 10**MARKET.stock_prec // 100
TAKER_RATE_UNITS = 2 * 10**MARKET.fee_prec // 1000
MAKER_RATE_UNITS = 10**MARKET.fee_prec // 1000
DETAIL = b"{}"  # what the commands of `funding` point to


def funding(first_business_id: int = 1) -> Records:
    """Deposits of every asset for every user."""
    asset_count = len(LISTING.assets)
    commands = np.zeros(asset_count * USER_COUNT, COMMAND)
    commands["kind"] = CommandKind.UPDATE_BALANCE
    commands["user_id"] = np.repeat(np.arange(1, USER_COUNT + 1), asset_count)
    commands["asset"] = np.tile(np.arange(asset_count), USER_COUNT)
    commands["subject_id"] = first_business_id + np.arange(len(commands))
    for place, command in enumerate(commands):
        command["change_units"] = _halves(FUNDS_WHOLE * 10 ** LISTING.assets[commands["asset"][place]].prec_show)
    commands["detail_size"] = len(DETAIL)
    return commands


def trading(count: int, seed: int = 1, market_count: int = 1) -> Records:
    """Limit orders of both sides, each crossing the mid: they trade with whatever rests on the other side."""
    draw = np.random.default_rng(seed)
    side = draw.integers(Side.ASK, Side.BID + 1, count)
    beyond = draw.integers(0, SPREAD_TICKS + 1, count)
    ticks = MID_TICKS + np.where(side == Side.BID, beyond, -beyond)
    commands = _puts(draw, side, ticks)
    if market_count > 1:
        commands["market"] = draw.integers(0, market_count, count)
    return commands


def filling(level_count: int, order_count: int, seed: int = 2) -> Records:
    """Resting orders, level by level in turn: half of the levels below the mid, half above, out of `trading`'s way."""
    draw = np.random.default_rng(seed)
    place = np.arange(order_count) % level_count
    side = np.where(place % 2 == 0, Side.BID, Side.ASK)
    distance = 2 * SPREAD_TICKS + place // 2
    return _puts(draw, side, MID_TICKS + np.where(side == Side.BID, -distance, distance))


def stirring(filled: Records, level_count: int, count: int, seed: int = 3) -> Records:
    """Work all over the book that `filled` made: of ten commands, four rest on a random level of it, four take from
    the best level, two cancel a random order. `filled` must have been the first orders, all accepted.
    """
    draw = np.random.default_rng(seed)
    side = draw.integers(Side.ASK, Side.BID + 1, count)
    act = draw.integers(0, 10, count)
    distance = 2 * SPREAD_TICKS + draw.integers(0, level_count // 2, count)
    resting_ticks = MID_TICKS + np.where(side == Side.BID, -distance, distance)
    far = 2 * SPREAD_TICKS + level_count // 2
    taking_ticks = MID_TICKS + np.where(side == Side.BID, far, -far)
    commands = _puts(draw, side, np.where(act < 4, resting_ticks, taking_ticks))
    victims = draw.integers(0, len(filled), count)
    is_cancel = act >= 8
    commands["kind"][is_cancel] = CommandKind.CANCEL
    commands["subject_id"][is_cancel] = victims[is_cancel] + 1
    commands["user_id"][is_cancel] = filled["user_id"][victims[is_cancel]]
    return commands


def _puts(draw: np.random.Generator, side: np.ndarray, ticks: np.ndarray) -> Records:
    commands = np.zeros(len(side), COMMAND)
    commands["kind"] = CommandKind.PUT_LIMIT
    commands["side"] = side
    commands["user_id"] = draw.integers(1, USER_COUNT + 1, len(side))
    commands["price_units"] = ticks * TICK_UNITS
    commands["amount_units"] = draw.integers(1, 11, len(side)) * LOT_UNITS
    commands["taker_rate_units"] = TAKER_RATE_UNITS
    commands["maker_rate_units"] = MAKER_RATE_UNITS
    return commands


def _halves(value: int) -> tuple[int, int]:
    assert 0 <= value < 1 << 126
    low = value & ((1 << 64) - 1)
    return low - (1 << 64) if low >> 63 else low, value >> 64
