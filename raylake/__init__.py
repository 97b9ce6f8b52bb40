"""Kafka topics become Delta Lake tables that look after themselves, on a Ray cluster."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("raylake")
except PackageNotFoundError:  # a source tree that was not installed
    __version__ = "0.0.0+source"
