"""Where the program inside the one-file executable begins."""

from damocles_worker import program

program.take_over()

from damocles_worker.__main__ import main  # noqa: E402

main()
