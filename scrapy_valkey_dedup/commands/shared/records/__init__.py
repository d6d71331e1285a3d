"""Reads posts where they are stored, builds their items and computes their keys."""
