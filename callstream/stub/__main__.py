"""`python -m callstream.stub`."""

import typer

from callstream.stub.command import stub

if __name__ == "__main__":
    typer.run(stub)
