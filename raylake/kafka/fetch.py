"""Reading records: the port, its data and its two implementations, under one name."""

from raylake.kafka.columnar import ColumnarFetcher
from raylake.kafka.connection import Connection
from raylake.kafka.poll import PollFetcher
from raylake.kafka.port import FetchedBatch, Fetcher, FetchSettings, Lag, Position
from raylake.kafka.records import FETCH_SCHEMA, HEADERS_TYPE

__all__ = [
    "FETCH_SCHEMA",
    "HEADERS_TYPE",
    "ColumnarFetcher",
    "Connection",
    "FetchSettings",
    "FetchedBatch",
    "Fetcher",
    "Lag",
    "PollFetcher",
    "Position",
]
