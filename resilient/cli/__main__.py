"""``python -m resilient.cli``."""

from . import main

main()
