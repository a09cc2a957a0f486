"""Kafka: the only importer of the client library. One element is one poll of one partition: a block of raw messages."""
