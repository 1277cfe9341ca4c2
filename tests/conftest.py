import hypothesis

hypothesis.settings.register_profile(
    "erasejax",
    deadline=None,  # the first draw of a shape compiles
    max_examples=20,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("erasejax")
