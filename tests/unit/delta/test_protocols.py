"""Which protocol a table's properties ask for."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from raylake.delta.protocols import asked_for, new_protocol, raised
from raylake.delta.vector_files import vector_file

OLD = {"minReaderVersion": 1, "minWriterVersion": 2}
NAMED: dict[str, Any] = {
    "minReaderVersion": 3,
    "minWriterVersion": 7,
    "readerFeatures": ["deletionVectors"],
    "writerFeatures": ["appendOnly", "deletionVectors"],
}


def test_what_is_there_is_not_raised() -> None:
    assert raised(OLD, []) is None
    assert raised(OLD, ["appendOnly", "invariants"]) is None
    assert raised(NAMED, ["deletionVectors"]) is None


def test_the_numbered_protocols_stay_while_they_have_it() -> None:
    assert raised(OLD, ["checkConstraints"]) == {
        "protocol": {"minReaderVersion": 1, "minWriterVersion": 3}
    }
    assert raised(OLD, ["changeDataFeed"]) == {
        "protocol": {"minReaderVersion": 1, "minWriterVersion": 4}
    }


def test_a_named_feature_brings_the_names_of_what_was_there() -> None:
    found = raised({**OLD, "minWriterVersion": 4}, ["deletionVectors"])
    assert found == {
        "protocol": {
            "minReaderVersion": 3,
            "minWriterVersion": 7,
            "readerFeatures": ["deletionVectors"],
            "writerFeatures": [
                "appendOnly",
                "changeDataFeed",
                "checkConstraints",
                "deletionVectors",
                "generatedColumns",
                "invariants",
            ],
        }
    }


def test_a_named_protocol_gets_one_name_more() -> None:
    found = raised(NAMED, ["changeDataFeed"])
    assert found is not None
    assert found["protocol"]["writerFeatures"] == [
        "appendOnly",
        "changeDataFeed",
        "deletionVectors",
    ]
    assert found["protocol"]["readerFeatures"] == ["deletionVectors"]


def test_properties_and_columns_ask() -> None:
    wanted = {
        "delta.enableChangeDataFeed": "TRUE",
        "delta.appendOnly": "false",
        "delta.constraints.x": "id > 0",
    }
    assert asked_for(wanted, '{"type": "timestamp_ntz"}') == {
        "changeDataFeed",
        "checkConstraints",
        "timestampNtz",
    }
    assert new_protocol({}, "{}") == {"protocol": OLD}
    assert new_protocol({}, '"timestamp_ntz"')["protocol"]["readerFeatures"] == ["timestampNtz"]


@pytest.mark.parametrize("prefix", ["", "ab"])
def test_a_vector_s_file_is_named_as_the_protocol_has_it(prefix: str) -> None:
    # The example of the Delta protocol's page.
    found = vector_file({"storageType": "u", "pathOrInlineDv": f"{prefix}^-aqEH.-t@S}}K{{vb[*k^"})
    name = f"deletion_vector_{uuid.UUID('d2c639aa-8816-431a-aaf6-d3fe2512ff61')}.bin"
    assert found == (f"{prefix}/{name}" if prefix else name)
    assert vector_file({"storageType": "i", "pathOrInlineDv": "abc"}) is None
    assert vector_file({"storageType": "p", "pathOrInlineDv": "s3://b/x"}) == "s3://b/x"
    assert vector_file(None) is None
