"""A group of commands that imports a command when it is called: the program starts without the others.

A word that is no command or option, here or in a command below, is answered with the nearest one.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
from collections.abc import Iterator
from typing import Any

import click

_NEAREST = " The nearest is "


class LazyGroup(click.Group):
    """A group whose commands are named by their places.

    :param places: command name -> ``module:attribute``, where the module is below
        ``damocles_worker.cli``.
    """

    def __init__(self, *args: Any, places: dict[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._places = places

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """As any group; its own options are parsed here."""
        with _nearest_named():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """As any group; commands below, and their options, are parsed here."""
        with _nearest_named():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, sorted."""
        return sorted({*self._places, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, imported; None: there is none."""
        if cmd_name not in self._places:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self._places[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(f"damocles_worker.cli.{module}"), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As any group, and a name that is none of ours is answered with the nearest."""
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            names = self.list_commands(ctx)
            raise click.exceptions.NoSuchCommand(error.command_name, possibilities=names, ctx=ctx) from None


@contextlib.contextmanager
def _nearest_named() -> Iterator[None]:
    """Where click finds nothing that is like an unknown word: the nearest, and all there are."""
    try:
        yield
    except (click.NoSuchOption, click.exceptions.NoSuchCommand) as error:
        known = _known(error)
        if error.possibilities or not known or _NEAREST in error.message:
            raise
        word = error.option_name if isinstance(error, click.NoSuchOption) else error.command_name
        nearest = max(known, key=lambda name: _likeness(word, name))
        text = f"{error.message}{_NEAREST}{nearest!r}; there are: {', '.join(known)}."
        raise type(error)(word, text, ctx=error.ctx) from None


def _likeness(word: str, name: str) -> float:
    """How alike they are, 0 to 1; a word that is like the beginning of a name is like it."""
    word, name = word.lstrip("-"), name.lstrip("-")
    return max(
        difflib.SequenceMatcher(None, word, part).ratio() for part in (name, name[: max(1, len(word))])
    )


def _known(error: click.NoSuchOption | click.exceptions.NoSuchCommand) -> list[str]:
    """The commands, or the options, of the command that met the word."""
    if error.ctx is None:
        return []
    command = error.ctx.command
    if isinstance(error, click.exceptions.NoSuchCommand):
        return command.list_commands(error.ctx) if isinstance(command, click.Group) else []
    options = (one for one in command.get_params(error.ctx) if isinstance(one, click.Option))
    return sorted(name for option in options for name in option.opts if name.startswith("--"))
