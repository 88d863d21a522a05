"""What a step costs: counted where it can be counted, timed as a ratio where it cannot."""
