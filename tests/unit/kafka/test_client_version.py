"""Another kafka-python than the one whose insides are known is refused before it is used."""

from __future__ import annotations

import kafka
import pytest
from kafka.consumer.fetcher import Fetcher

from raylake.errors import Refused
from raylake.kafka.connection import Connection
from raylake.kafka.fetch import ColumnarFetcher, PollFetcher
from raylake.kafka.hooks import refuse_other_versions


def test_the_installed_version_is_supported() -> None:
    refuse_other_versions()


@pytest.mark.parametrize("version", ["3.0.11", "2.3.0", "3.1.0", "4.0", "3.0.x"])
def test_another_version_is_refused_by_both_fetchers(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr(kafka, "__version__", version)
    for kind in (PollFetcher, ColumnarFetcher):
        with pytest.raises(Refused, match=r"supported is 3\.0\.12 to 3\.0\.x") as caught:
            kind(Connection("127.0.0.1:9"))
        assert version in caught.value.message


def test_a_fetcher_without_what_is_overridden_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Fetcher, "_append")
    with pytest.raises(Refused, match=r"lacks Fetcher\._append"):
        refuse_other_versions()
