"""Print the path of the plugin, for `--external_plugins` of ms-swift."""

import sys
from pathlib import Path

sys.stdout.write(f"{Path(__file__).with_name('adalora_ms_swift.py')}\n")
