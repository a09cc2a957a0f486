"""`aialgs.data.Record` by protobuf itself, and frames by hand: what ours is compared with."""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

MAGIC = bytes.fromhex("0a23d7ce")


def _record() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="record.proto", package="aialgs.data", syntax="proto2")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, kind in (
        ("Float32Tensor", kinds.TYPE_FLOAT),
        ("Float64Tensor", kinds.TYPE_DOUBLE),
        ("Int32Tensor", kinds.TYPE_INT32),
    ):
        tensor = file.message_type.add(name=name)
        for number, (field, type_) in enumerate(
            [("values", kind), ("keys", kinds.TYPE_UINT64), ("shape", kinds.TYPE_UINT64)], 1
        ):
            tensor.field.add(name=field, number=number, type=type_, label=kinds.LABEL_REPEATED).options.packed = True
    blob = file.message_type.add(name="Bytes")
    blob.field.add(name="value", number=1, type=kinds.TYPE_BYTES, label=kinds.LABEL_REPEATED)
    blob.field.add(name="content_type", number=2, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
    value = file.message_type.add(name="Value")
    value.oneof_decl.add(name="value")
    for name, number, message in (
        ("float32_tensor", 2, "Float32Tensor"),
        ("float64_tensor", 3, "Float64Tensor"),
        ("int32_tensor", 7, "Int32Tensor"),
        ("bytes", 9, "Bytes"),
    ):
        value.field.add(
            name=name, number=number, type=kinds.TYPE_MESSAGE, label=kinds.LABEL_OPTIONAL,
            type_name=f".aialgs.data.{message}", oneof_index=0,
        )  # fmt: skip
    record = file.message_type.add(name="Record")
    for number, name in ((1, "features"), (2, "label")):
        entry = record.nested_type.add(name=f"{name.capitalize()}Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
        entry.field.add(
            name="value", number=2, type=kinds.TYPE_MESSAGE, label=kinds.LABEL_OPTIONAL, type_name=".aialgs.data.Value"
        )
        record.field.add(
            name=name, number=number, type=kinds.TYPE_MESSAGE, label=kinds.LABEL_REPEATED,
            type_name=f".aialgs.data.Record.{entry.name}",
        )  # fmt: skip
    for number, name in ((3, "uid"), (4, "metadata"), (5, "configuration")):
        record.field.add(name=name, number=number, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("aialgs.data.Record"))


Record = _record()
TENSORS = {"float32": "float32_tensor", "float64": "float64_tensor", "int32": "int32_tensor"}


def payload(
    values: Any, kind: str = "float32", keys: Any = (), shape: Any = (), label: Any = (), label_kind: str = "float32",
    uid: str | None = None, metadata: str | None = None,
) -> bytes:  # fmt: skip
    """Return a record as protobuf writes it."""
    record = Record()
    tensor = getattr(record.features["values"], TENSORS[kind])
    tensor.values.extend(values)
    tensor.keys.extend(keys)
    tensor.shape.extend(shape)
    if len(label):
        getattr(record.label["values"], TENSORS[label_kind]).values.extend(label)
    if uid is not None:
        record.uid = uid
    if metadata is not None:
        record.metadata = metadata
    return record.SerializeToString(deterministic=True)


def frame(data: bytes, flag: int = 0) -> bytes:
    return MAGIC + (len(data) | flag << 29).to_bytes(4, "little") + data + bytes(-len(data) % 4)


def split(data: bytes) -> bytes:
    """Return a payload as dmlc-core writes it: in parts, where it holds the magic number at a multiple of 4."""
    cuts = [i for i in range(0, len(data) - 3, 4) if data[i : i + 4] == MAGIC]
    begins, ends = [0, *(cut + 4 for cut in cuts)], [*cuts, len(data)]
    parts = [data[a:b] for a, b in zip(begins, ends, strict=True)]
    flags = [0] if len(parts) == 1 else [1, *[2] * (len(parts) - 2), 3]
    return b"".join(frame(part, flag) for part, flag in zip(parts, flags, strict=True))
