"""Some texts read as null from a partition: what the column cannot hold is kept beside it."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from raylake.codecs.port import RESCUED, Decoded
from raylake.delta.partition_values import NULL_FOLDER
from raylake.layers.bronze import BronzeShape, keep_null_texts

NAME = 'a "b" é'


def decoded(*, rescued: bool = True) -> Decoded:
    columns = {
        NAME: ["", "x", None, NULL_FOLDER],
        "plain": ["", "", "", ""],
        RESCUED: ['{"n":1.50}', '{"m":[]}', None, None],
    }
    batch = pa.RecordBatch.from_pydict({k: pa.array(v, pa.string()) for k, v in columns.items()})
    return Decoded(batch if rescued else batch.drop_columns([RESCUED]), np.arange(4))


@pytest.mark.parametrize("rescued", [True, False], ids=["rescued", "reject"])
def test_a_text_that_reads_as_null_is_null_in_its_column_and_exact_in_rescued_data(
    rescued: bool,
) -> None:
    shape = BronzeShape.of([NAME, "date(_timestamp)"], keep_value=False, flags=False)
    kept, count = keep_null_texts(decoded(rescued=rescued), shape)
    assert count == 2
    rows = kept.payload.to_pydict()
    assert rows[NAME] == [None, "x", None, None]
    assert rows["plain"] == [""] * 4
    found = [text and json.loads(text) for text in rows[RESCUED]]
    before = [{"n": 1.5}, {"m": []}] if rescued else [{}, None]
    assert found == [{**(before[0] or {}), NAME: ""}, before[1], None, {NAME: NULL_FOLDER}]
    if rescued:
        assert rows[RESCUED][0].startswith('{"n":1.50,')


def test_without_such_a_text_in_a_partition_column_nothing_is_touched() -> None:
    given = decoded()
    for partition_by in ([], ["date(_timestamp)"], [RESCUED], ["_partition"]):
        shape = BronzeShape.of(partition_by, keep_value=False, flags=False)
        assert keep_null_texts(given, shape) == (given, 0)
