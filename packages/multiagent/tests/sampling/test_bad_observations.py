"""Observations that a connector refuses: an error that names the agent, or a gap in that agent's rows."""

from dataclasses import dataclass

import numpy as np
import pytest
from naming_env import OWN, make_config
from scheduled_env import make_runner

from rl_core import ObsConnector
from rl_core.errors import BadObservationError, EnvError
from rl_multiagent import MultiAgent


@dataclass(frozen=True)
class RefuseMultiples(ObsConnector):
    """Observations as they are, unless their first number is a multiple of one."""

    of: int = 5

    def output_space(self, observation_space, action_space):
        return observation_space

    def __call__(self, state, step):
        bad = np.flatnonzero((step.obs[:, 0] % self.of == 0) & (step.obs[:, 0] > 0))
        if len(bad):
            raise BadObservationError(bad.tolist(), f"{step.obs[bad[0], 0]:g} is a multiple of {self.of}")
        return state, step


@pytest.mark.parametrize("turn_based", [False, True])
@pytest.mark.parametrize("num_steps", [1, 7])
def test_what_is_refused_trains_nothing_and_ends_that_agents_segment(turn_based, num_steps):
    runner = make_runner(
        MultiAgent(), num_steps=num_steps, connectors=(RefuseMultiples(),), num_agents=3, turn_based=turn_based
    )
    trained, cut = [], 0
    for _ in range(84 // num_steps):
        rollout = runner.sample().by_policy.get("default")
        if rollout is None:
            continue
        num_rows, num_slots = rollout.reward.shape
        valid = np.ones((num_rows, num_slots), bool) if rollout.valid is None else rollout.valid.numpy()
        final = {int(index): place for place, index in enumerate(rollout.final_index)}
        for time, slot in np.argwhere(valid):
            place = final.get(time * num_slots + slot)
            following = rollout.obs[time + 1, slot] if place is None else rollout.final_obs[place]
            trained.append((float(rollout.obs[time, slot]), float(rollout.reward[time, slot]), float(following)))
            if time + 1 < num_rows and not valid[time + 1, slot]:
                assert rollout.truncated[time, slot] or rollout.terminated[time, slot], "nothing flows over the gap"
                cut += 1
    accounts = [slot.env.accountant for slot in runner.env._slots]
    rows = [row for account in accounts for part in account.done.values() for row in part]
    good = [row for row in rows if row.obs % 5 and row.next_obs % 5]
    assert sorted(trained) == sorted((row.obs, row.reward, row.next_obs) for row in good)
    assert len(good) < len(rows)
    assert cut or num_steps == 1
    assert runner.num_bad_observations > 0


def test_without_dropping_the_error_names_the_agent():
    config = make_config().env_runners(env_to_module_connector=(RefuseMultiples(of=1),))
    with pytest.raises(BadObservationError, match="agent 'left' in env slot .: 1 is a multiple of 1"):
        config.build().train()


@dataclass(frozen=True)
class WholeNumbers(ObsConnector):
    """Observations of another type than is declared."""

    def output_space(self, observation_space, action_space):
        return observation_space

    def __call__(self, state, step):
        return state, step.with_obs(step.obs.astype(np.int64))


def test_observations_that_are_not_as_declared_are_refused():
    config = make_config().env_runners(env_to_module_connector=(WholeNumbers(),))
    with pytest.raises(EnvError, match=r"Observation connector 0 \(WholeNumbers\) returned .* as a int64 array"):
        config.build()


def test_dropped_observations_are_counted_in_the_result_and_evaluation_goes_on():
    config = make_config(OWN).env_runners(env_to_module_connector=(RefuseMultiples(of=1),), bad_observations="drop")
    algorithm = config.training(num_epochs=1).build()
    counted = algorithm.train()["env_runners/num_bad_observations"]
    assert 0 < counted < 2 * 104
    assert algorithm.evaluate()["evaluation/num_episodes"] == 20
    assert algorithm.env_runner.num_bad_observations == counted
