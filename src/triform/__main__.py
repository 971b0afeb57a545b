"""python -m triform"""

from triform.cli import main

main()
