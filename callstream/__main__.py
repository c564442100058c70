"""`python -m callstream`: the same as `callstream`."""

from callstream.cli import main

if __name__ == "__main__":
    main()
