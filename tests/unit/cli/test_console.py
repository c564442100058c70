"""What a terminal is sent."""

import io

from rich.table import Table
from rich.tree import Tree

from callstream.cli.console import Console

EVIL = "a\x1b]0;owned\x07b\x1b[2Jc\x9b31md\u202ee"
SHOWN = "a\ufffd]0;ownedb\ufffd[2Jc\ufffd31md\ufffde"
"""Rich itself leaves out the bell."""


def printed(*things: object, colours: bool = False) -> str:
    screen = io.StringIO()
    Console(file=screen, width=80, force_terminal=colours, color_system="truecolor" if colours else None).print(*things)
    return screen.getvalue()


def test_no_text_steers_the_terminal() -> None:
    tree, table = Tree(EVIL), Table(EVIL)
    tree.add(EVIL)
    table.add_row(EVIL)

    for thing in (EVIL, tree, table):
        said = printed(thing)
        assert "\x1b" not in said
        assert "\x9b" not in said
        # A table's column is as wide as what cannot be seen left it.
        assert SHOWN[:15] in said


def test_colours_lines_and_other_scripts_stay() -> None:
    said = printed("[red]杯子\nمرحبا[/]", colours=True)

    assert said == "\x1b[31m杯子\x1b[0m\n\x1b[31mمرحبا\x1b[0m\n"
