"""Kafka: the local broker, the cluster's facts and the fetch."""
