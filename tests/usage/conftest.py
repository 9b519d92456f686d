"""Keep the corpus out of the collection: its files are judged as texts and never run."""

from __future__ import annotations

collect_ignore = ["corpus_later", "corpus_lora", "corpus_strangers"]
