"""Which methods may be repeated: by the caller's word, or by that of the proto."""

from __future__ import annotations

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from resilient.grpc.assembly import reader_of

LEVELS = {"Look": 1, "Put": 2, "Place": 0}


@pytest.fixture(scope="module", autouse=True)
def proto() -> None:
    file = descriptor_pb2.FileDescriptorProto(name="levels.proto", package="levels", syntax="proto3")
    file.message_type.add(name="Empty")
    service = file.service.add(name="Orders")
    for name, level in LEVELS.items():
        method = service.method.add(name=name, input_type=".levels.Empty", output_type=".levels.Empty")
        method.options.idempotency_level = level  # type: ignore[assignment]  # an enumeration of its own
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())


def test_the_proto_says_it() -> None:
    may = reader_of(())
    assert [may(f"/levels.Orders/{name}") for name in LEVELS] == [True, True, False]


def test_the_caller_says_it() -> None:
    assert reader_of({"/levels.Orders/Place"})("/levels.Orders/Place")
    assert reader_of(lambda method: method.endswith("Place"))("/levels.Orders/Place")
    assert reader_of(lambda method: False)("/levels.Orders/Look")


def test_of_what_nobody_knows_nothing_is_said() -> None:
    may = reader_of(["/shop.Catalog/Get"])
    assert [may("/shop.Catalog/Get"), may("/shop.Catalog/Set"), may("/no.Such/Method")] == [
        True,
        False,
        False,
    ]
