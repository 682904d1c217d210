"""`python -m headgate.cli`: the command line where the script is not on the path."""

from headgate.cli.main import run

run()
