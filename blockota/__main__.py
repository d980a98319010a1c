"""``python -m blockota`` runs the command ``blockota``."""

from blockota.cli.main import main

main()
