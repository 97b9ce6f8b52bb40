"""A rewind in a process of its own, so that it can be killed: prepared, committed, followed up."""

from __future__ import annotations

import sys
from pathlib import Path

from raylake.delta.prepared import prepare
from raylake.delta.rewinding import Rewind
from raylake.ingest.unit import SourcePartition
from raylake.storage.place import place
from tests.integration.verify.lake import PIPELINE, TABLE, TOPIC, TOPIC_ID, Lake

if __name__ == "__main__":
    root, end = Path(sys.argv[1]), int(sys.argv[2])
    lake = Lake(root, properties={"delta.appendOnly": "true"})
    order = Rewind(
        PIPELINE, {SourcePartition(TOPIC, TOPIC_ID, 0): end}, True, str(lake.letters), TABLE
    )
    prepared = prepare(order, lake.owner.states(), place(str(lake.table)), "none")
    for left in lake.owner.move(prepared):
        print(left)
    lake.settle()
    lake.owner.release()
