"""Exact answers to deterministic requests, kept in a replica's memory where its variant asks for that."""
