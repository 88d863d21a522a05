"""Verdicts as text. Everything here is computed from results: no pytest, no torch, no files."""
