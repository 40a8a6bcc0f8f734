"""``completion SHELL``: what makes the tab key complete commands, options and files."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


def completion_of(program: str) -> click.Command:
    """The command ``completion`` of the program whose main group it is added to."""

    @click.command(
        "completion",
        help=f"""Print the completion of {program} for a shell.

        \b
        bash: {program} completion bash > ~/.local/share/bash-completion/completions/{program}
        zsh:  {program} completion zsh > "${{fpath[1]}}/_{program}"
        fish: {program} completion fish > ~/.config/fish/completions/{program}.fish
        """,
    )
    @click.argument("shell", type=click.Choice(SHELLS))
    @click.pass_context
    def completion(context: click.Context, shell: str) -> None:
        kind = get_completion_class(shell)
        assert kind is not None and context.parent is not None, "a known shell, a command of a group"
        variable = f"_{program.replace('-', '_').upper()}_COMPLETE"
        click.echo(kind(context.parent.command, {}, program, variable).source())

    return completion
