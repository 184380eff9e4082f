"""Type promotion of shards whose schemas differ: to the narrowest type that holds every value exactly.

    types met in the shards                        become
    ─────────────────────────────────────────────  ───────────────────────────────────────────────────────────────
    null (or no such column) and any other         the other, null where a shard has none
    whole numbers                                  the narrowest that holds both; signed and uint64 have none
    whole numbers and floats                       the narrowest float that counts them all; int64, uint64 have none
    floats; decimals                               the widest; the one of most digits on both sides of the point
    string, large_string, string_view              large_string where one shard has it, else string
    binary, large_binary, binary_view, fixed       large_binary where one shard has it, else binary
    dictionary<T> and T                            what T and T become, plain
    dictionaries                                   a dictionary of what their values become, by the wider index
    list, large_list, list_view, fixed_size_list   large_list where one shard has it, else list, of what items become
    structs; maps                                  all fields, in the order met, by what each becomes
    timestamps, durations, times                   the finest unit; of one time zone
    date32 and date64                              date32
    extension<T> and T                             what T and T become

A column may be null where one shard allows it. Order, names of list items and metadata are the first shard's. Views
of text and bytes are never kept: too little of Arrow works on them. No other types are merged: 7 is not `"7"`.
"""

from collections.abc import Callable
from typing import Final

import pyarrow as pa
import pyarrow.types as pt

from pipeline.shards.columns.column_types import is_list, storage

_UNITS: Final = ("s", "ms", "us", "ns")
_EXACT_BITS: Final = {16: 11, 32: 24, 64: 53}  # whole numbers that a float of these bits counts


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return a type with every view replaced by the plain type."""
    if isinstance(kind, pa.BaseExtensionType):
        inner = plain_type(storage(kind))
        return kind if inner == storage(kind) else inner
    if pt.is_string_view(kind):
        return pa.string()
    if pt.is_binary_view(kind):
        return pa.binary()
    if pt.is_dictionary(kind):
        values = plain_type(kind.value_type)
        return kind if values == kind.value_type else pa.dictionary(kind.index_type, values, kind.ordered)
    if pt.is_list_view(kind) or pt.is_large_list_view(kind):
        inner = _plain_field(kind.value_field)
        if inner.type == kind.value_type:
            return kind
        return (pa.large_list if pt.is_large_list_view(kind) else pa.list_)(inner)
    if kind.num_fields == 0 or pt.is_union(kind):
        return kind
    parts = [_plain_field(kind.field(place)) for place in range(kind.num_fields)]
    if all(new.type == kind.field(place).type for place, new in enumerate(parts)):
        return kind
    if pt.is_struct(kind):
        return pa.struct(parts)
    if pt.is_map(kind):
        return pa.map_(_plain_field(kind.key_field), _plain_field(kind.item_field))
    if pt.is_fixed_size_list(kind):
        return pa.list_(parts[0], kind.list_size)
    return (pa.large_list if pt.is_large_list(kind) else pa.list_)(parts[0])


def promoted(first: pa.DataType, second: pa.DataType) -> pa.DataType | None:
    """Return the common type of two, by the table above; None if there is none."""
    first, second = plain_type(first), plain_type(second)
    if first == second:
        return _promoted_inside(first, second) or first  # equal types may differ in what may be null
    if pt.is_null(first) or pt.is_null(second):
        return second if pt.is_null(first) else first
    if isinstance(first, pa.BaseExtensionType) or isinstance(second, pa.BaseExtensionType):
        same = (storage(first), storage(second)) == (first, second)
        return None if same else promoted(storage(first), storage(second))
    if pt.is_dictionary(first) or pt.is_dictionary(second):
        return _dictionary(first, second)
    for rule in (_numbers, _widths, _promoted_inside, _times):
        found = rule(first, second)
        if found is not None:
            return found
    return None


def promoted_field(first: pa.Field, second: pa.Field) -> pa.Field | None:
    """Return the common field of two, under the name of the first; None if they have no common type."""
    kind = promoted(first.type, second.type)
    if kind is None:
        return None
    return pa.field(first.name, kind, first.nullable or second.nullable, first.metadata)


def cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Return a column cast to the type it was promoted to.

    Raises:
        pa.ArrowInvalid: a value does not fit, such as a date beyond the range of a finer unit.
    """
    if column.type == kind:
        return column
    if isinstance(column.type, pa.BaseExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    if pt.is_dictionary(column.type) and not pt.is_dictionary(kind):
        column = pa.chunked_array([chunk.dictionary_decode() for chunk in column.chunks], column.type.value_type)
    return column.cast(kind)


def _plain_field(field: pa.Field) -> pa.Field:
    return field.with_type(plain_type(field.type))


def _dictionary(first: pa.DataType, second: pa.DataType) -> pa.DataType | None:
    if not (pt.is_dictionary(first) and pt.is_dictionary(second)):
        plain, other = (first, second) if pt.is_dictionary(second) else (second, first)
        return promoted(plain, other.value_type)
    values = promoted(first.value_type, second.value_type)
    index = _numbers(first.index_type, second.index_type) if first.index_type != second.index_type else first.index_type
    if values is None:
        return None
    return pa.dictionary(index or pa.int64(), values, first.ordered and second.ordered)


def _numbers(first: pa.DataType, second: pa.DataType) -> pa.DataType | None:
    if pt.is_decimal(first) and pt.is_decimal(second):
        return _decimals(first, second)
    if not all(pt.is_integer(kind) or pt.is_floating(kind) for kind in (first, second)):
        return None
    wide = max(first.bit_width, second.bit_width)
    if pt.is_floating(first) and pt.is_floating(second):
        return {16: pa.float16(), 32: pa.float32(), 64: pa.float64()}[wide]
    if pt.is_integer(first) and pt.is_integer(second):
        if pt.is_signed_integer(first) == pt.is_signed_integer(second):
            return first if first.bit_width == wide else second
        signed, other = (first, second) if pt.is_signed_integer(first) else (second, first)
        bits = max(signed.bit_width, 2 * other.bit_width)
        return {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}.get(bits)
    whole, real = (first, second) if pt.is_integer(first) else (second, first)
    bits = whole.bit_width - pt.is_signed_integer(whole)
    fits = [width for width, exact in _EXACT_BITS.items() if width >= real.bit_width and exact >= bits]
    return {16: pa.float16(), 32: pa.float32(), 64: pa.float64()}[fits[0]] if fits else None


def _decimals(first: pa.DataType, second: pa.DataType) -> pa.DataType | None:
    scale = max(first.scale, second.scale)
    digits = max(first.precision - first.scale, second.precision - second.scale) + scale
    if digits > 76:
        return None
    return pa.decimal128(digits, scale) if digits <= 38 else pa.decimal256(digits, scale)


def _widths(first: pa.DataType, second: pa.DataType) -> pa.DataType | None:
    if _is_text(first) and _is_text(second):
        return pa.large_string() if pt.is_large_string(first) or pt.is_large_string(second) else pa.string()
    if _is_bytes(first) and _is_bytes(second):
        return pa.large_binary() if pt.is_large_binary(first) or pt.is_large_binary(second) else pa.binary()
    return None


def _is_text(kind: pa.DataType) -> bool:
    return bool(pt.is_string(kind) or pt.is_large_string(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_fixed_size_binary(kind))


def _promoted_inside(first: pa.DataType, second: pa.DataType) -> pa.DataType | None:
    """Return the common type of two nested types; None if there is none."""
    if pt.is_map(first) and pt.is_map(second):
        key, item = (
            promoted_field(first.key_field, second.key_field),
            promoted_field(first.item_field, second.item_field),
        )
        return None if key is None or item is None else pa.map_(key.with_nullable(False), item)
    if pt.is_struct(first) and pt.is_struct(second):
        return _structs(first, second)
    if not (is_list(first) and is_list(second)):
        return None
    item = promoted_field(first.value_field, second.value_field)
    if item is None:
        return None
    if pt.is_fixed_size_list(first) and pt.is_fixed_size_list(second) and first.list_size == second.list_size:
        return pa.list_(item, first.list_size)
    if first == second and (pt.is_list_view(first) or pt.is_large_list_view(first)):
        return first
    large = any(pt.is_large_list(kind) or pt.is_large_list_view(kind) for kind in (first, second))
    return (pa.large_list if large else pa.list_)(item)


def _structs(first: pa.DataType, second: pa.DataType) -> pa.DataType | None:
    theirs = {second.field(place).name: second.field(place) for place in range(second.num_fields)}
    fields = []
    for mine in (first.field(place) for place in range(first.num_fields)):
        other = theirs.pop(mine.name, None)
        both = mine.with_nullable(True) if other is None else promoted_field(mine, other)
        if both is None:
            return None
        fields.append(both)
    return pa.struct([*fields, *(field.with_nullable(True) for field in theirs.values())])


def _times(first: pa.DataType, second: pa.DataType) -> pa.DataType | None:
    if pt.is_date(first) and pt.is_date(second):
        return pa.date32()
    makers: tuple[tuple[Callable[[pa.DataType], bool], Callable[[str], pa.DataType]], ...] = (
        (pt.is_duration, pa.duration),
        (pt.is_time, lambda unit: pa.time32(unit) if unit in ("s", "ms") else pa.time64(unit)),
        (pt.is_timestamp, lambda unit: pa.timestamp(unit, first.tz)),
    )
    for is_kind, make in makers:
        if is_kind(first) and is_kind(second):
            if getattr(first, "tz", None) != getattr(second, "tz", None):
                return None
            return make(max(first.unit, second.unit, key=_UNITS.index))
    return None
