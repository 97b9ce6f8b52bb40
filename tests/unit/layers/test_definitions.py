"""What decides a table's rows: a table that was made by an earlier release is still the same."""

from __future__ import annotations

from typing import Any

import pytest

from raylake.config.derived import Scd1Table, Scd2Table, UpsertTable
from raylake.layers.build import digest_of

KEYED: dict[str, Any] = {"from": "bronze.t", "mode": "upsert", "keys": ["id"], "sequence_by": "at"}
OF_0_1 = "29660626f3c7316f"
"""The digest of that table before there were keys for merges and for what follows a write."""


@pytest.mark.spec("K8")
def test_keys_of_later_releases_change_no_table_that_does_not_say_them() -> None:
    assert digest_of(UpsertTable(**KEYED)) == OF_0_1
    assert digest_of(UpsertTable(**KEYED, optimize_after_write="compact")) == OF_0_1
    of_dimension = {**KEYED, "from": "silver.u"}
    now = Scd1Table(**{**of_dimension, "mode": "scd1", "resolve": "target"})
    past = Scd2Table(**{**of_dimension, "mode": "scd2", "track": ["n"]})
    assert (digest_of(now), digest_of(past)) == ("83cde9472ec7530a", "dac1eb74e73e4dc1")


@pytest.mark.parametrize(
    "more",
    [
        {"insert_only": True},
        {"delete_when": "id = 1"},
        {"update_when": "source.id = 1"},
        {"insert_when": "id = 1"},
        {"update_columns": ["id"]},
        {"insert_columns": ["id"]},
    ],
)
def test_what_merges_write_decides_a_tables_rows(more: dict[str, Any]) -> None:
    assert digest_of(UpsertTable(**KEYED, **more)) != OF_0_1
