"""Whatever agents do, every reward, action and observation is attributed as a literal accountant does."""

import functools

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scheduled_env import Transition, make_runner

from rl_multiagent import MultiAgent


def draw_policy(agent, episode):
    return str(episode.rng.choice(["one", "two"]))


def transitions_of(runner, rollouts, found):
    """Add what the rollouts hold to `found[env slot][agent]`, in order."""
    for name, rollout in rollouts.by_policy.items():
        ((env_of, agents),) = (
            (slots.env_of[slots.parts[name]], slots.agents[slots.parts[name]])
            for slots in runner._slots.values()
            if name in slots.parts
        )
        num_rows, num_slots = rollout.reward.shape
        final = {int(position): row for row, position in enumerate(rollout.final_index)}
        for slot in range(num_slots):
            for time in range(num_rows):
                if rollout.valid is not None and not rollout.valid[time, slot]:
                    assert rollout.valid[time:, slot].sum() == 0, "padding stands at the end"
                    break
                ends = time * num_slots + slot in final
                following = rollout.final_obs[final[time * num_slots + slot]] if ends else rollout.obs[time + 1, slot]
                found[env_of[slot]].setdefault(agents[slot], []).append(
                    Transition(
                        float(rollout.obs[time, slot]),
                        int(rollout.action[time, slot]),
                        float(rollout.reward[time, slot]),
                        bool(rollout.terminated[time, slot]),
                        bool(rollout.truncated[time, slot]) and ends,
                        float(following),
                    )
                )
                if not ends and rollout.truncated[time, slot]:
                    assert time == num_rows - 1 or not rollout.valid[time + 1, slot], "cut before padding only"


@settings(max_examples=50, phases=(Phase.explicit, Phase.generate))
@given(
    num_agents=st.integers(1, 5),
    seed=st.integers(0, 10_000),
    turn_based=st.booleans(),
    num_steps=st.integers(1, 9),
    who=st.sampled_from(["shared", "own", "drawn"]),
)
def test_every_transition_is_that_of_the_literal_accountant(num_agents, seed, turn_based, num_steps, who):
    extension = {
        "shared": MultiAgent(),
        "own": MultiAgent(policies=tuple(f"a{place}" for place in range(num_agents))),
        "drawn": MultiAgent(policies=("one", "two"), policy_mapping_fn=draw_policy),
    }[who]
    runner = make_runner(extension, num_steps=num_steps, num_agents=num_agents, seed=seed, turn_based=turn_based)
    found = [{} for _ in range(3)]
    returns = []
    for _ in range(60 // num_steps):
        rollouts = runner.sample()
        transitions_of(runner, rollouts, found)
        returns += runner.episodes.returns.tolist()
        assert rollouts.env_steps == num_steps * 3
    accounts = [slot.env.accountant for slot in runner.env._slots]
    for account, got in zip(accounts, found, strict=True):
        if who != "drawn":
            assert got == account.done
        else:  # with a policy per episode, the order between the policies' rollouts is lost
            order = functools.partial(sorted, key=lambda transition: transition.obs)
            assert {agent: order(parts) for agent, parts in got.items()} == account.done
    np.testing.assert_allclose(sorted(returns), sorted(value for account in accounts for value in account.returns))


def test_what_is_open_at_the_end_of_a_rollout_is_finished_in_the_next():
    runner = make_runner(MultiAgent(), num_steps=1, num_agents=3, seed=3, turn_based=True)
    open_before = 0
    for _ in range(30):
        rollout = runner.sample().by_policy.get("default")
        count = 0 if rollout is None else rollout.env_steps
        open_now = int(runner._slots["default"].open.sum())
        assert count <= open_before + 3
        open_before = open_now
    assert open_before


@pytest.mark.parametrize("agents", [1, 3])
def test_equal_seeds_give_equal_rollouts(agents):
    first, second = (make_runner(MultiAgent(), num_steps=5, num_agents=agents, seed=1) for _ in range(2))
    for _ in range(4):
        one, two = first.sample().by_policy["default"], second.sample().by_policy["default"]
        assert (one.obs == two.obs).all()
        assert (one.action == two.action).all()
