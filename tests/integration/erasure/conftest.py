"""A bench for pipelines with silver and gold."""

from __future__ import annotations

from tests.integration.pipeline.conftest import make_bench

__all__ = ["make_bench"]
