"""`callstream policy`: moderation rules tried on a text, and tested with the cases that lie beside them."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from callstream.agents.moderation import Judge, Judgement, default_rules, load_rules
from callstream.agents.moderation.cases import Cases, cases_beside, load_cases, tried
from callstream.agents.moderation.measure import Score, Told, by, judged, load_labelled, score
from callstream.agents.moderation.rules import DEFAULT_RULES, Action
from callstream.agents.moderation.rulesfile import judge_of
from callstream.cli.console import Console
from callstream.cli.errors import CliError
from callstream.cli.policy_compare import compare
from callstream.streams import strict_json

MOST_BYTES = 1024 * 1024
MOST_SHOWN = 20
PART = "text"
_COLOURS = {
    Action.MASK: "black on bright_black",
    Action.REGENERATE: "black on cyan",
    Action.HOLD: "black on yellow",
    Action.REJECT: "white on red",
}

app = typer.Typer(help="Try, test, measure and compare moderation rules.", no_args_is_help=True)
Rules = Annotated[Path | None, typer.Option("--rules", help="A .toml or .json file; else the rules that ship.")]


@app.command("try")
def try_text(
    text: Annotated[str, typer.Argument(help="The text; - reads it from standard input.")],
    rules: Rules = None,
    as_json: Annotated[bool, typer.Option("--json", help="As the step's output has it.")] = False,
) -> None:
    """Show what the rules find in a text, where, and what they decide. The exit code is 0 whatever that is."""
    judge = _judge(rules)
    text = _standard_input() if text == "-" else text
    judgement = judge.judge({PART: text})
    if as_json:
        typer.echo(strict_json.dumps(judgement.as_json(judge.rules.version)).decode())
        return
    named = rules if rules is not None else "the rules that ship"
    typer.echo(f"{judgement.decision} by {named}, version {judge.rules.version}")
    if judgement.policy:
        typer.echo(f"  {judgement.policy}")
    if judgement.masked:
        typer.echo(f"  it goes on as: {judgement.masked[PART]}")
    if judgement.findings:
        Console(soft_wrap=True).print(marked(text, judgement))
        for line in findings(judgement):
            typer.echo(line)


@app.command("test")
def check_rules(
    rules: Annotated[list[Path] | None, typer.Argument(help="Rules files; else the rules that ship.")] = None,
) -> None:
    """Judge the cases beside rules files (mine.cases.toml beside mine.toml). Exit code 1 if one comes out otherwise."""
    missed = 0
    for file in rules or [DEFAULT_RULES]:
        cases = _cases(file)
        run = tried(_judge(file), cases)
        missed += len(run.misses)
        for miss in run.misses[:MOST_SHOWN]:
            typer.echo(f"{file.name}: {miss}", err=True)
        if more := run.misses[MOST_SHOWN:]:
            typer.echo(f"{file.name}: and {len(more):,} more", err=True)
        right = len(cases.cases) - len(run.misses)
        typer.echo(f"{file.name}: {right:,} of {len(cases.cases):,} cases as expected")
        if run.idle:
            shown = ", ".join(run.idle[:MOST_SHOWN]) + ("…" if len(run.idle) > MOST_SHOWN else "")
            typer.echo(f"{file.name}: no case meets {shown}")
    if missed:
        raise typer.Exit(1)


@app.command()
def measure(
    texts: Annotated[Path, typer.Argument(help="Labelled texts, a .toml or .json file.")],
    rules: Rules = None,
    misses: Annotated[int, typer.Option(min=0, max=100_000, help="How many misses to list.")] = MOST_SHOWN,
    every: Annotated[int, typer.Option(min=1, max=100, help="Only every n-th text, for one to be kept unseen.")] = 1,
    first: Annotated[int, typer.Option(min=1, max=100, help="The number of the first of them, from 1.")] = 1,
) -> None:
    """Tell how well rules tell texts apart that a person has labelled: precision, recall, and the misses."""
    told = judged(_judge(rules), load_labelled(texts))[first - 1 :: every]
    if not told:
        raise CliError(f"{texts}: no text is left to be judged from number {first} on")
    for line in scores(told):
        typer.echo(line)
    wrong = [one for one in told if not one.right]
    for one in wrong[:misses]:
        typer.echo(
            f"{'missed ' if not one.flagged else 'flagged'} {one.number:>4} {_label(one)}: {one.labelled.text!r}"
        )
    if more := wrong[misses:]:
        typer.echo(f"and {len(more):,} more")


app.command()(compare)


def scores(told: list[Told]) -> list[str]:
    """A line for all texts, and one for each language, category and evasion."""
    groups = {
        "language": by(told, lambda one: one.language),
        "category": by(told, lambda one: one.category),
        "evasion": by(told, lambda one: one.evasion),
    }
    lines = [f"{'':24}  texts to flag  found  recall  wrongly flagged  precision", _score("all", score(told))]
    for group, found in groups.items():
        lines += [_score(f"{group} {name}", one, group == "language") for name, one in found.items()]
    return lines


def _score(name: str, found: Score, all_kinds: bool = True) -> str:
    shares = [f"{100 * share:.1f} %" if share is not None else "-" for share in (found.recall, found.precision)]
    line = f"{name:24}  {found.wanted:13,}  {found.found:5,}  {shares[0]:>6}"
    return f"{line}  {found.wrong:15,}  {shares[1]:>9}" if all_kinds else line


def _label(one: Told) -> str:
    if one.flagged:
        return f"({', '.join(dict.fromkeys(finding.rule for finding in one.judgement.findings))})"
    return f"({', '.join(filter(None, (one.labelled.category, one.labelled.evasion)))})"


def marked(text: str, judgement: Judgement) -> Text:
    """The text with each finding in the colour of its action."""
    shown = Text(text)
    for finding in reversed(judgement.findings):
        shown.stylize(_COLOURS[finding.action], finding.start, finding.end)
    return shown


def findings(judgement: Judgement) -> list[str]:
    """A line for each finding and one for its reason, the gravest first."""
    lines: list[str] = []
    for one in judgement.findings[:MOST_SHOWN]:
        lines.append(
            f"  {one.action:10}  {one.rule} ({one.category}, {one.severity}) at {one.start}-{one.end}: {one.text}"
        )
        lines += [f"              {one.why}"] if one.why else []
    more = judgement.found - MOST_SHOWN
    return [*lines, f"  and {more:,} more"] if more > 0 else lines


def _judge(rules: Path | None) -> Judge:
    return judge_of(load_rules(rules) if rules is not None else default_rules())


def _cases(rules: Path) -> Cases:
    beside = cases_beside(rules)
    if not beside.is_file():
        raise CliError(f"{rules}: its cases are looked for in {beside}, which is no file")
    return load_cases(beside)


def _standard_input() -> str:
    raw = sys.stdin.buffer.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise CliError(f"standard input: more than {MOST_BYTES:,} bytes; give a shorter text")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise CliError(f"standard input: not UTF-8 at byte {error.start:,}") from None
