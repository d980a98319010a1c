"""``python -m blockota`` is the command ``blockota``."""

from blockota.cli.main import main

main()
