"""The training state: what a resumed run needs beside the adapter file."""
