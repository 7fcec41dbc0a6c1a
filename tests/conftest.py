"""Settings of all tests: how hard Hypothesis tries, chosen by HYPOTHESIS_PROFILE.

`ci` (the default) runs the same few examples every time, so that a red build is red for everyone; `nightly` is random
and long, to find what nobody has thought of.
"""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "ci", derandomize=True, deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "nightly", deadline=None, max_examples=1_000, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
