"""Spark on a Ray cluster: Java, jars, settings, and the life of the one session (DESIGN §6)."""
