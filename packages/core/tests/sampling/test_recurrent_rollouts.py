import pytest
import torch
from recurrent import MODES, SPECS, make_recurrent_runner

from rl_core.testing.envs import CountdownEnv, ObservationIsTimeEnv
from rl_core.tree import tree_leaves, tree_map


def assert_same(got, expected, what):
    for one, two in zip(tree_leaves(got), tree_leaves(expected), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6, msg=what)


def cell(tree, time, slot):
    return tree_map(lambda leaf: leaf[time, slot : slot + 1], tree)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_states_are_those_of_the_module_stepped_by_hand(spec, mode):
    """The env's first observation number is the time in the episode: 0 tells where one begins."""
    runner = make_recurrent_runner(ObservationIsTimeEnv, spec, mode)
    module = runner.policy.module
    states = [module.initial_state(1) for _ in range(3)]
    num_ends = 0
    for _ in range(4):
        rollout = runner.sample()
        done = rollout.terminated | rollout.truncated
        places = {int(index): place for place, index in enumerate(rollout.final_index)}
        assert all(len(leaf) == 12 for leaf in tree_leaves(rollout.state))
        for slot in range(3):
            for time in range(11):
                where = f"step {time} of slot {slot}"
                assert_same(cell(rollout.state, time, slot), states[slot], where)
                dist_inputs, after = module.forward_policy(rollout.obs[time, slot : slot + 1], states[slot])
                assert_same(rollout.behavior_dist_inputs[time, slot], dist_inputs[0], where)
                place = places.get(time * 3 + slot)
                if place is not None:
                    assert done[time, slot]
                    num_ends += 1
                    final = tree_map(lambda leaf, at=place: leaf[at : at + 1], rollout.final_state)
                    assert_same(final, after, f"final state after {where}")
                begins = rollout.obs[time + 1, slot, 0] == 0
                states[slot] = module.initial_state(1) if begins else after
            assert_same(cell(rollout.state, 11, slot), states[slot], f"the end of slot {slot}")
        assert (rollout.final_state == ()) == (len(places) == 0)
    assert num_ends == 0 if mode.value == "NextStep" else num_ends > 20


@pytest.mark.parametrize("mode", MODES)
def test_a_rollout_begins_with_the_state_that_the_last_one_ended_with(mode):
    runner = make_recurrent_runner(ObservationIsTimeEnv, SPECS["lstm"], mode)
    first, second = runner.sample(), runner.sample()
    for one, two in zip(tree_leaves(first.state), tree_leaves(second.state), strict=True):
        assert torch.equal(one[-1], two[0])


@pytest.mark.parametrize("name", ["own", "attention"])
def test_sampling_and_evaluating_leave_the_states_handed_out_alone(name):
    runner = make_recurrent_runner(ObservationIsTimeEnv, SPECS[name], MODES[0])
    rollout = runner.sample()
    before = [leaf.clone() for leaf in (*tree_leaves(rollout.state), *tree_leaves(rollout.final_state))]
    runner.sample()
    runner.evaluate(num_episodes=2, seed=0, explore=True)
    after = (*tree_leaves(rollout.state), *tree_leaves(rollout.final_state))
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


@pytest.mark.parametrize("mode", MODES)
def test_a_restored_runner_goes_on_bit_for_bit_with_its_memory(mode):
    runner, twin = (make_recurrent_runner(ObservationIsTimeEnv, SPECS["lstm apart"], mode) for _ in range(2))
    runner.sample()
    state = runner.get_state()
    twin.sample()
    twin.sample()
    twin.set_state(state)
    for _ in range(3):
        one, two = runner.sample(), twin.sample()
        assert torch.equal(one.obs, two.obs)
        assert torch.equal(one.behavior_dist_inputs, two.behavior_dist_inputs)
        for left, right in zip(tree_leaves(one.state), tree_leaves(two.state), strict=True):
            assert torch.equal(left, right)


@pytest.mark.parametrize("name", SPECS)
def test_evaluation_restarts_the_memory_with_each_episode(name):
    """All episodes of this env are alike, so that a policy without exploration repeats itself."""
    runner = make_recurrent_runner(CountdownEnv, SPECS[name], MODES[0], num_envs=1, num_steps=15)
    rollout = runner.sample()
    inputs = rollout.behavior_dist_inputs[:, 0].view(3, 5, -1)
    torch.testing.assert_close(inputs[1], inputs[0])
    torch.testing.assert_close(inputs[2], inputs[0])
    assert (inputs[0, 1:] - inputs[0, :-1]).abs().max() > 1e-3
    seen = []
    forward = runner.policy.module.forward_policy
    runner.policy.module.forward_policy = lambda obs, state: seen.append(forward(obs, state)) or seen[-1]
    runner.evaluate(num_episodes=3, seed=0, explore=False)
    evaluated = torch.stack([dist_inputs[0] for dist_inputs, _ in seen]).view(3, 5, -1)
    torch.testing.assert_close(evaluated, inputs)
