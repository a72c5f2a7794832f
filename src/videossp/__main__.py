"""`python -m videossp` is the command line."""

import sys

from videossp.cli.main import main

sys.exit(main())
