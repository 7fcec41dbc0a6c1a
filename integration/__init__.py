"""Integration tests: against real services, which `services` starts."""
