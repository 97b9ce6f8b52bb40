"""Erasure and retention on real tables."""
