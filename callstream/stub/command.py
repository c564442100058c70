"""The command line of the stub, made from StubOptions so that each option is described once."""

import inspect
from typing import Annotated, get_args, get_origin

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from callstream.stub.options import StubOptions
from callstream.stub.running import run
from callstream.stub.server import explain


def stub(**given: object) -> None:
    """Run the stub model server. OpenAI-compatible, seeded, with limits and faults that can be set."""
    try:
        options = StubOptions.model_validate(
            {name: value for name, value in given.items() if value is not None} | _fail(given)
        )
    except ValidationError as error:
        raise typer.BadParameter(explain(error)) from None
    try:
        run(options)
    except OSError as error:
        raise typer.BadParameter(f"cannot listen on {options.host}:{options.port}: {error.strerror or error}") from None


def _fail(given: dict[str, object]) -> dict[str, object]:
    pairs = given.get("fail")
    if not isinstance(pairs, list):
        return {}
    return {"fail": {kind: probability for kind, _, probability in (str(pair).partition("=") for pair in pairs)}}


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    default = [] if name == "fail" else field.default
    kind = list[str] if name == "fail" else _plain(field.annotation)
    flag = f"--{name.replace('_', '-')}"
    option = typer.Option(flag, help=field.description, show_default=default not in (None, []))
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])


def _plain(annotation: object) -> object:
    """What typer knows how to read; bounds and choices are pydantic's to check."""
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    if get_origin(annotation) is None:
        return annotation
    if all(isinstance(kind, str) for kind in kinds):
        return str
    return kinds[0] | None


_parameters = [_parameter(name, field) for name, field in StubOptions.model_fields.items()]
stub.__dict__["__signature__"] = inspect.Signature(_parameters)
stub.__annotations__ = {parameter.name: parameter.annotation for parameter in _parameters}
