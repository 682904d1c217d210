"""The vocabulary of the house: pure types and arithmetic. No I/O, no environment, no knowledge of any other room."""
