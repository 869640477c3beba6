from rl_core.rng import stream_seed


def test_a_stream_has_one_seed_on_every_machine():
    assert stream_seed(0) == stream_seed(0)
    assert stream_seed(0, "env_runner", 1) == 355791539, "changing this changes every run"


def test_streams_of_different_names_or_seeds_differ():
    names = [(), ("a",), ("b",), ("a", 0), ("a", 1), ("a", 2), (1,), ("ab",), ("a", "b")]
    seeds = {stream_seed(seed, *name) for seed in range(50) for name in names}
    assert len(seeds) == 50 * len(names)


def test_seeds_fit_where_31_bits_are_expected():
    assert all(0 <= stream_seed(seed, "x") < 2**31 for seed in (0, 1, 2**31, 2**64))
