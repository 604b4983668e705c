"""python -m threatlens COMMAND"""

from threatlens.cli import main

main()
