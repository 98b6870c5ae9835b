"""All tests: python -m unittest tests."""

import os


def load_tests(loader, standard, pattern):
    here = os.path.dirname(__file__)
    return loader.discover(here, top_level_dir=os.path.dirname(here))
