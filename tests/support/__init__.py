"""Builders and a small world for the tests."""
