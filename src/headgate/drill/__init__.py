"""Breaks simulated providers on purpose and measures what clients of each strategy get. Everything here is simulated and
says so; the gateway that is measured is the real one."""
