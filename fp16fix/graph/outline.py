"""A big file → its proto without the weights, which stay where they lie in the file: a parsed proto holds them twice while it is read.

Protobuf's wire format is tags and lengths (Protocol Buffers, *Encoding*), so whatever holds no big weight is taken over as it is.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from fp16fix.graph.stream import opening
from fp16fix.graph.thin import BIG_TENSOR

TENSOR = onnx.TensorProto
RAW_DATA = TENSOR.DESCRIPTOR.fields_by_name["raw_data"].number
HOLDERS = (onnx.ModelProto, onnx.GraphProto, onnx.NodeProto, onnx.AttributeProto)
"""Messages in which tensors may be."""
VARINT, FIXED64, COUNTED, FIXED32 = 0, 1, 2, 5
"""Wire types."""
DEEPEST = 100
"""Messages in one another that protobuf reads by default."""
INNER = {
    (holder.DESCRIPTOR.full_name, field.number): field.message_type.full_name
    for holder in HOLDERS
    for field in holder.DESCRIPTOR.fields
    if field.message_type is not None and field.message_type.full_name in {each.DESCRIPTOR.full_name for each in (*HOLDERS, TENSOR)}
}
"""(message, field) → the message in it, where that may hold weights."""


def outlined(path: Path) -> onnx.ModelProto:
    """The proto of a file in which big weights are external data that lies in the file itself.

    Raises:
        DecodeError: it is no protobuf.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as held:
        proto = onnx.ModelProto()
        proto.ParseFromString(Outline(held, path.name).message(onnx.ModelProto.DESCRIPTOR.full_name, 0, len(held)))
        return proto


class Outline:
    """Takes messages over without big weights."""

    def __init__(self, held: mmap.mmap, name: str) -> None:
        """Of a file of this name."""
        self.held = held
        self.name = name

    def message(self, kind: str, start: int, end: int, depth: int = 0) -> bytes:
        """The bytes of a message between two places of the file, weights left out."""
        if depth > DEEPEST:
            raise DecodeError("messages in messages without an end")
        made, place = bytearray(), b""
        for number, begin, body, after in self.fields(start, end):
            inner = INNER.get((kind, number))
            if after - body <= BIG_TENSOR or (inner is None and (kind, number) != (TENSOR.DESCRIPTOR.full_name, RAW_DATA)):
                made += self.held[begin:after]
            elif inner is None:
                place = self.reference(body, after - body)
            else:
                taken = self.message(inner, body, after, depth + 1)
                made += opening(number, len(taken)) + taken
        return bytes(made) + place

    def reference(self, offset: int, length: int) -> bytes:
        """What a tensor says in the place of its bytes (ONNX, *ExternalData*)."""
        found = TENSOR(data_location=TENSOR.EXTERNAL)
        for key, value in (("location", self.name), ("offset", str(offset)), ("length", str(length))):
            found.external_data.add(key=key, value=value)
        return bytes(found.SerializeToString())

    def fields(self, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Number, where the tag begins, where the value begins, where it ends."""
        at = start
        while at < end:
            begin = at
            tag, at = self.varint(at, end)
            kind = tag & 7
            if kind == COUNTED:
                length, at = self.varint(at, end)
                after = at + length
            elif kind == VARINT:
                after = self.varint(at, end)[1]
            elif kind in (FIXED64, FIXED32):
                after = at + (8 if kind == FIXED64 else 4)
            else:
                raise DecodeError(f"wire type {kind}")
            if after > end:
                raise DecodeError("a field goes on past its message")
            yield tag >> 3, begin, at, after
            at = after

    def varint(self, at: int, end: int) -> tuple[int, int]:
        """A number, seven bits a byte, and where it ends."""
        value = 0
        for index in range(10):
            if at + index >= end:
                break
            byte = self.held[at + index]
            value |= (byte & 127) << 7 * index
            if byte < 128:
                return value, at + index + 1
        raise DecodeError("a number without an end")
