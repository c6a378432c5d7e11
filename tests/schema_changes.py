"""What changed between two versions of a protobuf schema that a reader of the older one would feel.

Names, numbers and types are compared of everything that the older one has; what is new is allowed,
unless it takes a number or a name that was given up and reserved.
"""

from collections.abc import Iterator

from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorSet


def breaking_changes(old: FileDescriptorSet, new: FileDescriptorSet) -> list[str]:
    """Returns what in `new` breaks readers or writers of `old`, a line each."""
    known, found = _types(new), []
    for name, before in _types(old).items():
        after = known.get(name)
        if after is None or type(after) is not type(before):
            found.append(f"{name}: removed")
        elif isinstance(before, EnumDescriptorProto):
            found += _enum_changes(name, before, after)
        else:
            found += _message_changes(name, before, after)
    return found


def _types(files: FileDescriptorSet) -> dict[str, DescriptorProto | EnumDescriptorProto]:
    def walk(prefix: str, messages, enums) -> Iterator[tuple[str, object]]:
        for enum in enums:
            yield f"{prefix}.{enum.name}", enum
        for message in messages:
            yield f"{prefix}.{message.name}", message
            yield from walk(f"{prefix}.{message.name}", message.nested_type, message.enum_type)

    return {
        name: one
        for file in files.file
        for name, one in walk(file.package, file.message_type, file.enum_type)
    }


def _message_changes(name: str, before: DescriptorProto, after: DescriptorProto) -> Iterator[str]:
    known = {field.number: field for field in after.field}
    for field in before.field:
        place = f"{name}.{field.name} = {field.number}"
        now = known.get(field.number)
        if now is None:
            yield f"{place}: removed"
            continue
        for part in ("name", "type", "label", "type_name", "json_name", "proto3_optional"):
            if getattr(now, part) != getattr(field, part):
                was, became = getattr(field, part), getattr(now, part)
                yield f"{place}: {part} changed from {was!r} to {became!r}"
        if _oneof(before, field) != _oneof(after, now):
            yield f"{place}: moved to another oneof"
    for span in before.reserved_range:
        for number in sorted(set(range(span.start, span.end)) & known.keys()):
            yield f"{name}: {known[number].name} takes the reserved number {number}"
    for field in after.field:
        if field.name in before.reserved_name:
            yield f"{name}: {field.name} takes a reserved name"


def _oneof(message: DescriptorProto, field) -> str:
    return message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else ""


def _enum_changes(
    name: str, before: EnumDescriptorProto, after: EnumDescriptorProto
) -> Iterator[str]:
    known = {value.name: value.number for value in after.value}
    for value in before.value:
        if known.get(value.name) != value.number:
            yield f"{name}.{value.name} = {value.number}: removed, renamed or renumbered"
