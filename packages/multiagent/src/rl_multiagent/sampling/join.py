"""What several runners sampled as if one had, and what one sampled as shares of several learners."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from rl_core.sampling.join import join_rollouts, split_rollout
from rl_multiagent.records import AgentRollouts


def join_agent_rollouts(rollouts: Sequence[AgentRollouts]) -> AgentRollouts:
    """Put the slots of several runners' rollouts side by side, policy by policy."""
    names = {name: None for part in rollouts for name in part.by_policy}
    return AgentRollouts(
        by_policy={
            name: join_rollouts([part.by_policy[name] for part in rollouts if name in part.by_policy]) for name in names
        },
        env_steps=sum(part.env_steps for part in rollouts),
        agent_steps=sum(part.agent_steps for part in rollouts),
    )


def split_agent_rollouts(rollout: AgentRollouts, num_parts: int) -> list[AgentRollouts]:
    """Cut each policy's rollout between its slots; see `split_rollout`."""
    cut = {name: split_rollout(own, num_parts) for name, own in rollout.by_policy.items()}
    return [
        dataclasses.replace(rollout, by_policy={name: parts[place] for name, parts in cut.items()})
        for place in range(num_parts)
    ]
