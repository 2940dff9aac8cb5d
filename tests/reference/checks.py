"""Which arguments a command may have, whatever the state: everything else is INVALID_ARGUMENT (CONTRACT 2.3, 10.2)."""

from collections.abc import Callable
from decimal import Decimal
from typing import Protocol

from bus.messages import TEXT_MAX, UNITS_MAX, USER_MAX, CommandKind, Side
from conf.markets import TOTAL_DIGITS, Asset, Listing, Market, total_max_units
from tests.reference.exact import from_units
from tests.reference.records import Command


class Listed(Protocol):
    """What is listed, by index and as the operator wrote it, and what came with the batch."""

    assets: list[Asset]
    markets: list[Market]
    listing: Listing
    blob_size: int  # of the batch's text, which balance updates' details are in


def check_arguments(listed: Listed, command: Command) -> bool:
    """Whether every argument that counts for the kind of command is in its range."""
    put = (_is_user, _is_market, _is_side, _is_amount, _is_taker_rate, _is_text)
    checks: dict[int, tuple[Callable[[Listed, Command], bool], ...]] = {
        CommandKind.PUT_LIMIT: (*put, _is_price, _is_maker_rate, _is_product),
        CommandKind.PUT_MARKET: put,
        CommandKind.CANCEL: (_is_user, _is_market),
        CommandKind.UPDATE_BALANCE: (_is_user, _is_asset, _is_text, _is_detail, _is_change),
    }
    return command.kind in checks and all(check(listed, command) for check in checks[command.kind])


def save_places(listed: Listed, asset: int) -> int:
    """How many decimals balances of an asset keep."""
    return listed.assets[asset].prec_save


def total_max(listed: Listed, asset: int) -> Decimal:
    """What all balances of an asset together may reach."""
    return from_units(total_max_units(listed.listing, listed.assets[asset]), listed.assets[asset].prec_save)


def _is_user(listed: Listed, command: Command) -> bool:
    return 0 <= command.user_id <= USER_MAX


def _is_market(listed: Listed, command: Command) -> bool:
    return 0 <= command.market < len(listed.markets)


def _is_asset(listed: Listed, command: Command) -> bool:
    return 0 <= command.asset < len(listed.assets)


def _is_side(listed: Listed, command: Command) -> bool:
    return command.side in (Side.ASK, Side.BID)


def _is_amount(listed: Listed, command: Command) -> bool:
    return 0 < command.amount_units <= UNITS_MAX


def _is_price(listed: Listed, command: Command) -> bool:
    return 0 < command.price_units <= UNITS_MAX


def _is_taker_rate(listed: Listed, command: Command) -> bool:
    return 0 <= command.taker_rate_units < _scale(listed.markets[command.market].fee_prec)


def _is_maker_rate(listed: Listed, command: Command) -> bool:
    return 0 <= command.maker_rate_units < _scale(listed.markets[command.market].fee_prec)


def _is_product(listed: Listed, command: Command) -> bool:
    most = _scale(TOTAL_DIGITS) // _scale(listed.markets[command.market].fee_prec)
    return command.price_units * command.amount_units <= most


def _is_text(listed: Listed, command: Command) -> bool:
    if not 0 <= command.text_size <= TEXT_MAX:
        return False
    try:
        return "\0" not in command.content.decode()
    except UnicodeDecodeError:
        return False


def _is_detail(listed: Listed, command: Command) -> bool:
    offset, size = command.detail_offset, command.detail_size
    return offset >= 0 and size >= 0 and offset + size <= listed.blob_size


def _is_change(listed: Listed, command: Command) -> bool:
    asset = listed.assets[command.asset]
    return abs(command.change_units) * _scale(asset.prec_save - asset.prec_show) <= _scale(TOTAL_DIGITS)


def _scale(places: int) -> int:
    return int(10**places)
