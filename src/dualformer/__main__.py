"""``python -m dualformer`` is the command line."""

import sys

from dualformer.cli.main import main

sys.exit(main())
