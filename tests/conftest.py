"""What every test shares: one hypothesis profile, repeatable where nobody watches."""

import os

from hypothesis import settings

settings.register_profile("flock", deadline=None, derandomize="CI" in os.environ, print_blob=True)
settings.load_profile("flock")
