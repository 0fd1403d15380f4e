"""`python -m ai3`: the command `ai3`."""

import sys

from ai3.command import main

sys.exit(main())
