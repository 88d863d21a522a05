"""Runs over many seeds: what a golden keeps of them, how they are trained, and what they say of a changed optimizer."""
