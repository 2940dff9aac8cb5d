"""128-bit integers in kernels: money, fees and balances are exact in them.

`wide(x)` makes one, and `+ - * << >> & | ^` and comparisons work between two; `load` and `store` move one between a
kernel and a WIDE field of a record, `load_bytes` and `store_bytes` 16 bytes of a text field. Compiled, each is one or
two machine instructions; with NUMBA_DISABLE_JIT=1 a wide is a Python int and the same kernels run as plain Python. No
operation checks for overflow: conf.markets' `total_max_units` and the checks above a kernel's first write keep every
value below 2**127.

`fence` keeps the compiler from moving memory accesses across it; the sequence locks need no more on x86-64, and on
ARM it is the acquire-release barrier that they need there.
"""

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.datamodel import models
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, register_model, type_callable

from engine.kernel import COMPILED, kernel

_MASK = (1 << 64) - 1
_I128 = ir.IntType(128)


class WideType(types.Type):  # type: ignore[misc]  # numba has no types
    """Numba's view of a wide; it never crosses into Python."""

    def __init__(self) -> None:
        super().__init__(name="wide")


_WIDE = WideType()


@register_model(WideType)
class _WideModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, wide_type: WideType) -> None:
        super().__init__(manager, wide_type, _I128)


def wide(x: int) -> int:
    """An integer as a wide."""
    return int(x)


@type_callable(wide)
def _type_wide(context: Any) -> Callable[[types.Type], types.Type | None]:
    return lambda x: _WIDE if isinstance(x, types.Integer | WideType) else None


@lower_builtin(wide, types.Integer)
def _lower_wide(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    extend = builder.sext if sig.args[0].signed else builder.zext
    return extend(args[0], _I128)


@lower_builtin(wide, WideType)
def _lower_same(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return args[0]


def _operator(function: Callable[..., Any], result: types.Type, emit: Callable[[Any, Any, Any], Any]) -> None:
    """Teach numba one operator between two wides."""

    @infer_global(function)
    class Template(AbstractTemplate):  # type: ignore[misc]  # numba has no types
        key = function

        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) == 2 and all(isinstance(arg, WideType) for arg in args):
                return signature(result, _WIDE, _WIDE)
            return None

    @lower_builtin(function, WideType, WideType)
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return emit(builder, *args)


def _arithmetic(function: Callable[..., Any], instruction: str) -> None:
    _operator(function, _WIDE, lambda builder, x, y: getattr(builder, instruction)(x, y))


def _comparison(function: Callable[..., Any], sign: str) -> None:
    _operator(function, types.boolean, lambda builder, x, y: builder.icmp_signed(sign, x, y))


_arithmetic(operator.add, "add")
_arithmetic(operator.sub, "sub")
_arithmetic(operator.mul, "mul")
_arithmetic(operator.lshift, "shl")
_arithmetic(operator.rshift, "ashr")
_arithmetic(operator.and_, "and_")
_arithmetic(operator.or_, "or_")
_arithmetic(operator.xor, "xor")
_comparison(operator.lt, "<")
_comparison(operator.le, "<=")
_comparison(operator.gt, ">")
_comparison(operator.ge, ">=")
_comparison(operator.eq, "==")
_comparison(operator.ne, "!=")


def _field_pointer(builder: Any, record: Any, offset: int) -> Any:
    address = builder.gep(builder.bitcast(record, ir.IntType(8).as_pointer()), [ir.Constant(ir.IntType(64), offset)])
    return builder.bitcast(address, _I128.as_pointer())


def load_row(row: Any, field: str) -> int:
    low, high = row[field]
    return (int(high) << 64) | (int(low) & _MASK)


def store_row(row: Any, field: str, value: int) -> None:
    row[field][0] = _narrow(value)
    row[field][1] = _narrow(value >> 64)


def _load_bytes(row: Any, field: str, start: int) -> int:
    return int.from_bytes(bytes(row[field][start : start + 16]), "little")


def _store_bytes(row: Any, field: str, start: int, value: int) -> None:
    row[field][start : start + 16] = list((value & (1 << 128) - 1).to_bytes(16, "little"))


def _narrow(value: int) -> int:
    return ((value & _MASK) ^ (1 << 63)) - (1 << 63)


def _fence() -> None:
    pass


@intrinsic(prefer_literal=True)
def _compiled_load(context: Any, row: Any, field: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(_field_pointer(builder, args[0], row.offset(field.literal_value)), align=8)

    return _WIDE(row, field), generate


@intrinsic(prefer_literal=True)
def _compiled_store(context: Any, row: Any, field: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[2], _field_pointer(builder, args[0], row.offset(field.literal_value)), align=8)
        return context.get_dummy_value()

    return types.void(row, field, _WIDE), generate


@intrinsic(prefer_literal=True)
def _compiled_load_bytes(context: Any, row: Any, field: Any, start: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = row.offset(field.literal_value) + start.literal_value
        return builder.load(_field_pointer(builder, args[0], place), align=1)

    return _WIDE(row, field, start), generate


@intrinsic(prefer_literal=True)
def _compiled_store_bytes(context: Any, row: Any, field: Any, start: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = row.offset(field.literal_value) + start.literal_value
        builder.store(args[3], _field_pointer(builder, args[0], place), align=1)
        return context.get_dummy_value()

    return types.void(row, field, start, _WIDE), generate


@intrinsic
def _compiled_narrow(context: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.trunc(args[0], ir.IntType(64))

    return types.int64(_WIDE), generate


@intrinsic
def _compiled_fence(context: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.fence("acq_rel")
        return context.get_dummy_value()

    return types.void(), generate


load = _compiled_load if COMPILED else load_row  # (record, "field") -> wide
store = _compiled_store if COMPILED else store_row  # (record, "field", wide)
load_bytes = _compiled_load_bytes if COMPILED else _load_bytes  # (record, "field", 0 or 16) -> wide
store_bytes = _compiled_store_bytes if COMPILED else _store_bytes  # (record, "field", 0 or 16, wide)
narrow = _compiled_narrow if COMPILED else _narrow  # wide -> its low 64 bits, signed
fence = _compiled_fence if COMPILED else _fence


@kernel
def divide(dividend: int, divisor: int) -> int:
    """The whole quotient of a wide >= 0 and an i8 > 0, by long division: one bit a step, only as many as needed.

    LLVM's own i128 division calls a C runtime function that compiled numba code can't reach.
    """
    step = wide(divisor)
    quotient = wide(0)
    one = wide(1)
    bit = wide(0)
    while (step << one) <= dividend and (step << one) > step:
        step = step << one
        bit = bit + one
    rest = dividend
    while bit >= wide(0):
        if rest >= step:
            rest = rest - step
            quotient = quotient + (one << bit)
        step = step >> one
        bit = bit - one
    return quotient
