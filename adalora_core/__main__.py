"""Run the `adalora` command by `python -m adalora_core`."""

from __future__ import annotations

import sys

from adalora_core.commands.bounded_run import main

sys.exit(main())
