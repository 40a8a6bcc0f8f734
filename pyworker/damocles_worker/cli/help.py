"""``damocles-worker help [COMMAND]...``, which people type as often as ``--help``."""

from __future__ import annotations

import click


@click.command("help")
@click.argument("names", nargs=-1, metavar="[COMMAND]...")
@click.pass_context
def help_command(context: click.Context, names: tuple[str, ...]) -> None:
    """Print the help of a command."""
    place = context.parent or context
    for name in names:
        if not isinstance(place.command, click.Group):
            raise click.UsageError(f"{place.command_path} has no command {name!r}", context)
        _, command, _ = place.command.resolve_command(place, [name])
        if command is None:
            raise click.exceptions.NoSuchCommand(name, ctx=place)
        place = click.Context(command, parent=place, info_name=command.name)
    click.echo(place.get_help())
