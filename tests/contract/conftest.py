"""The engines that the contract is held against."""

from __future__ import annotations

import pytest

from raylake.spark.engine import SparkEngine
from raylake.spark.engine_sessions import one_session
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.port import TableEngine


@pytest.fixture(params=["delta-rs", "spark"])
def engine(request: pytest.FixtureRequest) -> TableEngine:
    if request.param == "spark":
        return SparkEngine(one_session(request.getfixturevalue("spark")))
    return DeltaRsEngine()
