"""`python -m adalora_core` is the `adalora` command."""

from __future__ import annotations

import sys

from adalora_core.cli import main

sys.exit(main())
