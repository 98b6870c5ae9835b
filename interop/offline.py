"""transformers, imported so that it neither asks the network nor talks."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import transformers  # noqa: E402  the variable is read at import

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

__all__ = ["transformers"]
