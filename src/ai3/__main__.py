"""`python -m ai3`: the program `ai3`."""

import sys

from ai3.commands import main

sys.exit(main())
