"""Profiles of the random tests: the default runs a fixed slice, `make fuzz` many fresh cases (FUZZ_CASES of each)."""

import os

from hypothesis import HealthCheck, settings

_COMMON = {"deadline": None, "suppress_health_check": list(HealthCheck)}
settings.register_profile("default", max_examples=25, derandomize=True, **_COMMON)
settings.register_profile("fuzz", max_examples=int(os.environ.get("FUZZ_CASES", 1000)), **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
