"""The program: every command in one place, each read when it is called: a client waits for nothing of the workers."""

import os
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from callstream import __version__
from callstream.streams.foreseen import DEBUG


@dataclass(frozen=True, slots=True)
class Command:
    """Where a command, or a group of them, is, and its line in the list of all."""

    module: str
    member: str
    about: str

    def load(self, name: str) -> Any:
        """The command as typer makes it; typer brings a click of its own, so: Any."""
        found = getattr(import_module(self.module), self.member)
        if not isinstance(found, typer.Typer):
            alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
            alone.command()(found)
            found = alone
        command = typer.main.get_command(found)
        command.name = name
        return command


COMMANDS = {
    "demo": Command("callstream.cli.demo", "demo", "Show the whole chain at work."),
    "worker": Command("callstream.cli.worker", "worker", "Run services until SIGTERM or Ctrl-C."),
    "reload": Command("callstream.cli.reload", "reload", "Have running workers read their settings again."),
    "produce": Command("callstream.cli.produce", "produce", "Send test tasks, with a progress bar."),
    "status": Command("callstream.cli.status", "status", "Show a task and its steps."),
    "log": Command("callstream.cli.log", "log", "Tell a task as a story."),
    "tail": Command("callstream.cli.tail", "tail", "Follow tasks as they end, until Ctrl-C."),
    "lag": Command("callstream.cli.lag", "lag", "Show how far services are behind."),
    "pools": Command("callstream.cli.pools", "app", "Show model endpoints."),
    "usage": Command("callstream.cli.usage", "usage", "Show what model calls took and cost."),
    "alarms": Command("callstream.cli.alarms", "alarms", "Show alarms."),
    "chains": Command("callstream.cli.chains", "chains", "Show chains and versions."),
    "cancel": Command("callstream.cli.control", "cancel", "Cancel tasks: those named, or all that fit the options."),
    "pause": Command("callstream.cli.control", "pause", "Pause a task, a chain, a service, a pool or a tenant."),
    "resume": Command("callstream.cli.control", "resume", "Let go on what was paused."),
    "control": Command("callstream.cli.control", "control", "Show what is paused and which filters cancel tasks."),
    "replay": Command("callstream.cli.replay", "replay", "Do steps again, by new tasks."),
    "diff": Command("callstream.cli.diff", "diff", "Show how two tasks differ."),
    "settings": Command("callstream.cli.settings", "settings", "Show the settings in force."),
    "stub": Command("callstream.stub.command", "stub", "Run the stub model server."),
    "kafka": Command("callstream.cli.broker", "app", "The embedded Kafka broker."),
    "schedule": Command("callstream.cli.schedule", "app", "Tasks that are handed in by the clock."),
    "dead": Command("callstream.cli.dead", "app", "Dead letters: list, show, edit, patch, redrive, discard."),
    "review": Command("callstream.cli.review", "app", "Held tasks: list, show, claim, release, decide."),
    "match": Command("callstream.cli.match", "app", "Nearest items by meaning: make an index, look into it."),
    "prompts": Command("callstream.cli.prompts", "app", "Check prompt templates, and try them on a product."),
    "policy": Command("callstream.cli.policy", "app", "Try, test, measure and compare moderation rules."),
}


class Program(TyperGroup):
    """All commands by name."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names, in the order of the list."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """One of them, or None."""
        return COMMANDS[cmd_name].load(cmd_name) if cmd_name in COMMANDS else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list, without reading them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.about) for name, command in COMMANDS.items()])


app = typer.Typer(
    name="callstream",
    cls=Program,
    help="Durable, asynchronous model calls over Kafka.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"callstream {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    if debug:
        os.environ[DEBUG] = "1"
