"""What all tests share: the broker fixture, the `spec` marker's check, Hypothesis, the workers."""

from __future__ import annotations

import hypothesis
import pytest

from tests.harness.spec_report import known_rows

pytest_plugins = [
    "tests.harness.broker",
    "tests.harness.cluster",
    "tests.harness.scope",
    "tests.harness.chaos_report",
    "tests.harness.disk",
]

# A slow machine is not a failing property; a failing example can be pasted back from the output.
hypothesis.settings.register_profile("raylake", deadline=None, print_blob=True)
hypothesis.settings.load_profile("raylake")

# These start JVMs and clusters: with several workers, a file of them stays on one.
_WHOLE_FILES = {"integration", "chaos", "packaging"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    rows = known_rows()
    for item in items:
        folder = item.path.relative_to(config.rootpath).parts[:2][-1]
        if folder in _WHOLE_FILES and item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.split("::")[0]))
        for marker in item.iter_markers("spec"):
            if unknown := sorted(set(marker.args) - rows.keys()):
                raise pytest.UsageError(
                    f"{item.nodeid}: no such rows of the specification: {unknown}"
                )
            if not marker.args:
                raise pytest.UsageError(f"{item.nodeid}: the spec marker names no row")
