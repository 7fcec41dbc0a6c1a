"""The parts of `pipelines.flights_with_weather`, in modules of their own: workers import them, they cannot import `__main__`."""
