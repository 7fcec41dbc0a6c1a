"""The parts of `pipelines.flights_demo`, in modules of their own: workers import them, they cannot import `__main__`."""
