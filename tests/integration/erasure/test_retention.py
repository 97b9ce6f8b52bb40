"""Rows that are older than their table keeps leave, and the account balances."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raylake.cli.main import main
from raylake.client.retention import retain_tables
from raylake.clock import ManualClock
from raylake.errors import ConfigError
from tests.integration.erasure.shop import Shop

DAY_S = 86_400.0
RECORDS_S = 1_700_000_000.0
"""Kafka's times of the records."""


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path, retain="90d")
    made.fill()
    made.transform()
    return made


@pytest.mark.spec("F4")
def test_rows_leave_when_they_are_older_than_retain(shop: Shop) -> None:
    config = shop.loaded.config
    young = ManualClock(RECORDS_S + 89 * DAY_S)
    (kept,) = retain_tables(config, clock=young)
    assert (kept.table, kept.rows, kept.version) == ("bronze.orders", 0, None)
    # The first records are older by then, and the last ones are not.
    between = ManualClock(RECORDS_S + 90 * DAY_S + 0.0105)
    (planned,) = retain_tables(config, dry_run=True, clock=between)
    assert 0 < planned.rows < 15
    assert len(shop.read("bronze.orders")) == 15
    (done,) = retain_tables(config, clock=between)
    assert done.rows == planned.rows
    assert done.error is None
    assert len(shop.read("bronze.orders")) == 15 - done.rows
    assert shop.verify().totals.dropped == done.rows
    assert retain_tables(config, clock=between)[0].rows == 0
    before = len(shop.read("silver.orders"))
    shop.transform()
    assert len(shop.read("silver.orders")) < before, "what came from those rows alone follows"
    shop.verify()


@pytest.mark.spec("F4")
def test_silver_keeps_by_a_column_of_its_own(shop: Shop) -> None:
    text = shop.file.read_text().replace("retain: 90d\n", "retain: 36500d\n")
    text = text.replace("    mode: upsert\n", "    mode: upsert\n    retain: 30d\n"
                        "    retain_by: ordered_at\n")  # fmt: skip
    shop.file.write_text(text)
    # Orders are of January 2026, from the first to the 27th.
    clock = ManualClock(1_767_225_600 + 40 * DAY_S)
    bronze, silver = retain_tables(shop.loaded.config, clock=clock)
    assert (bronze.rows, silver.table) == (0, "silver.orders")
    left = shop.read("silver.orders")
    assert silver.rows == 9 - len(left) > 0
    assert all(one["ordered_at"].timestamp() >= clock.now() - 30 * DAY_S for one in left)
    shop.transform()
    assert shop.read("silver.orders") == left, "a step of its own does not bring them back"
    shop.verify()


@pytest.mark.spec("F4")
def test_retain_by_command_and_what_cannot_be(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["retain", str(shop.file), "--dry-run", "-o", "json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["tables"]
    assert (one["table"], one["rows"]) == ("bronze.orders", 15)
    assert main(["retain", str(shop.file), "--table", "silver.orders"]) == 2
    assert main(["retain", str(shop.file)]) == 0
    assert shop.read("bronze.orders") == []
    with pytest.raises(ConfigError, match="has no `retain`"):
        retain_tables(shop.loaded.config, table="gold.sales")
    shop.file.write_text(shop.file.read_text() + "# \n")
    text = shop.file.read_text().replace("retain: 90d\n", "retain: 90d\n    retain_by: amount\n")
    shop.file.write_text(text)
    (wrong,) = retain_tables(shop.loaded.config)
    assert wrong.error is not None
    assert "amount is a string" in wrong.error["message"]
