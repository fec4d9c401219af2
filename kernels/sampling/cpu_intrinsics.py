"""What numba has no word for: addresses as arrays, atomic counters, half floats, a 128-bit product.

Each is one or two LLVM instructions. Plain `njit` code cannot say them, and a call into C would stop loops from
becoming vector code.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.np.arrayobj import populate_array

from kernels.sampling.cpu_compile import instruction


def _array_at(element: types.Type) -> Any:
    def array_at(typing_context: Any, address: Any, count: Any) -> Any:
        kind = types.Array(element, 1, "C")

        def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            data = builder.inttoptr(arguments[0], context.get_data_type(element).as_pointer())
            size = context.get_constant(types.intp, element.bitwidth // 8)
            array = context.make_array(kind)(context, builder)
            shape, strides = (cgutils.pack_array(builder, [n]) for n in (arguments[1], size))
            populate_array(array, data=data, shape=shape, strides=strides, itemsize=size, meminfo=None)
            return array._getvalue()

        return kind(types.int64, types.int64), generate

    return instruction(array_at)


def _element_at(element: types.Type) -> Any:
    def element_at(typing_context: Any, address: Any, index: Any) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            data = builder.inttoptr(arguments[0], context.get_data_type(element).as_pointer())
            return builder.load(builder.gep(data, [arguments[1]]))

        return element(types.int64, types.int64), generate

    return instruction(element_at)


# The array of `count` elements at an address: f32s(address, count).
f32s, i16s, u16s, i32s, i64s, u8s = map(
    _array_at, (types.float32, types.int16, types.uint16, types.int32, types.int64, types.uint8)
)
# One element of such an array: f32(address, index).
f32, i32, i64 = map(_element_at, (types.float32, types.int32, types.int64))


@instruction
def fetch_add(typing_context: Any, counters: Any, index: Any, amount: Any) -> Any:
    """Add `amount` to `counters[index]` (int64) atomically; the value before. Orders all memory around it."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = builder.gep(array.data, [arguments[1]])
        return builder.atomic_rmw("add", place, arguments[2], "seq_cst")

    return types.int64(counters, types.int64, types.int64), generate


@instruction
def float_of_half(typing_context: Any, bits: Any) -> Any:
    """The fp32 value of fp16 `bits` (uint16)."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return builder.fpext(builder.bitcast(arguments[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), generate


@instruction
def float_of_bits(typing_context: Any, bits: Any) -> Any:
    """The fp32 value whose bits are the int32 `bits`."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


@instruction
def upper_product(typing_context: Any, word: Any, total: Any) -> Any:
    """(word * total) >> 64 of the unsigned 64-bit `word` and the int64 `total` >= 0, as int64."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(arguments[0], wide), builder.zext(arguments[1], wide))
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return types.int64(types.uint64, types.int64), generate
