"""Completion with the tab key, as the shells ask for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from damocles_worker.cli.main import cli
from damocles_worker.cli.util import util

PROGRAMS = {"damocles-worker": cli, "damocles-worker-util": util}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_is_what_its_shell_reads(program: str, shell: str) -> None:
    printed = CliRunner().invoke(PROGRAMS[program], ["completion", shell])
    assert printed.exit_code == 0 and f"{shell}_complete" in printed.output
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=printed.output, text=True, check=True)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("damocles-worker wor", {"worker"}),
        ("damocles-worker worker ", {"drain", "history", "list", "pause", "resume"}),
        ("damocles-worker worker pause --in", {"--index"}),
        ("damocles-worker --log-format ", {"human", "json"}),
        ("damocles-worker-util hwinfo --fs", {"--fsroot"}),
    ],
)
def test_bash_offers_commands_options_and_values(tmp_path: Path, line: str, offered: set[str]) -> None:
    """The script in a real bash, which calls the real program."""
    words = line.split(" ")
    for program in PROGRAMS:
        command = tmp_path / program
        command.write_text(
            f"#!/bin/sh\nexec {sys.executable} -c '"
            f'import sys; sys.argv[0] = "{program}"; from damocles_worker.cli.main import main; main()'
            '\' "$@"\n'
        )
        command.chmod(0o755)
    script = CliRunner().invoke(PROGRAMS[words[0]], ["completion", "bash"]).output
    function = f"_{words[0].replace('-', '_')}_completion"
    asked = f"""{script}
    COMP_WORDS=({" ".join(f"'{word}'" for word in words)}); COMP_CWORD={len(words) - 1}
    {function} {words[0]}
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    run = subprocess.run(["bash", "-c", asked], env=environment, capture_output=True, text=True, check=True)
    assert offered <= set(run.stdout.split()), run.stderr
