"""Load on a running system: the gateway benchmark, a soak, many streams at once, and locust users."""
