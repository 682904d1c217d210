"""Simulated providers over real HTTP, for the demo, the drills and the tests.

`wire` plays scripts (`script`) on sockets; `scripted` is a fake provider whose answers a test writes; `replay` serves
recorded exchanges; `faults` is a misbehaving TCP proxy; `models`, `minds` and `demo` are whole models that speak their
providers' native formats.
"""
