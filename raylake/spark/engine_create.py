"""A new table by Spark."""

from __future__ import annotations

import json
from functools import partial

from delta.tables import DeltaTable
from pyspark.sql import SparkSession
from pyspark.sql.types import StructType

from raylake.spark.engine_errors import translated
from raylake.spark.engine_open import address, looked_at
from raylake.storage.place import Place, make_folder
from raylake.tables.creating import NewTable, new_table, without_constraint
from raylake.tables.likeness import SPARK
from raylake.tables.requests import Create
from raylake.tables.turns import Done, ended


def create(root: Place, session: SparkSession, request: Create) -> Done:
    """Create a table.

    Raises:
        TableError: As :func:`~raylake.tables.creating.new_table`.
        PartlyDone: The table is there and lacks a constraint.
    """
    new = new_table(root, request)
    failure = ended(lambda: _create(root, session, request, new))
    if failure is not None:
        raise translated(failure, root, "create") from failure
    for name, one in new.constraints.items():
        failure = ended(partial(_constrain, root, session, name, one.sql(SPARK)))
        if failure is not None:
            raise without_constraint(root, name, failure) from failure
    return Done(-1, looked_at(root).log.version)


def _create(root: Place, session: SparkSession, request: Create, new: NewTable) -> None:
    make_folder(root)
    columns = StructType.fromJson(json.loads(new.schema.to_json()))
    builder = DeltaTable.create(session).location(address(root, session)).addColumns(columns)
    if request.partition_by:
        builder = builder.partitionedBy(*request.partition_by)
    if request.description:
        builder = builder.comment(request.description)
    for key, value in request.properties.items():
        builder = builder.property(key, value)
    builder.execute()


def _constrain(root: Place, session: SparkSession, name: str, condition: str) -> None:
    table, constraint = (one.replace("`", "``") for one in (address(root, session), name))
    session.sql(f"ALTER TABLE delta.`{table}` ADD CONSTRAINT `{constraint}` CHECK ({condition})")
