"""Measurements: one command per claim, peers side by side (see README.md in this folder)."""
