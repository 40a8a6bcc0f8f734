"""``python -m damocles_worker`` is the command itself."""

import sys


def main() -> None:
    """Run the command. A child doesn't load what only the daemon and the other commands need."""
    if sys.argv[1:3] == ["processor", "guard"]:
        from damocles_worker.processors import guard_process

        guard_process.main()
    elif sys.argv[1:2] == ["processor"]:
        from damocles_worker.cli import processor

        processor.main()
    else:
        from damocles_worker.cli import main as command

        command.main()


if __name__ == "__main__":
    main()
