"""Allocate ranks in ms-swift, also under DDP: name this file in `external_plugins`.

The settings stay ms-swift's own: `tuner_type: adalora`, `adalora_init_r` and the like.
"""

from adalora_core.bridge import install

install()  # PEFT's models that ms-swift makes allocate by themselves, where its callback does not
