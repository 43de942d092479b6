"""`python -m web`: the same as the `collab` command."""

from web.cli import main

raise SystemExit(main())
