"""`python -m batch_operator`."""

from batch_operator.cli import main

main()
