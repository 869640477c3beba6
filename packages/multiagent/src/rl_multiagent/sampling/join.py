"""What several runners sampled as if one had, and what one sampled as shares of several learners."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from rl_core import Rollout
from rl_core.sampling.join import join_rollouts, require_slots, slots_of
from rl_multiagent.records import AgentRollouts


def join_agent_rollouts(rollouts: Sequence[AgentRollouts]) -> AgentRollouts:
    """Put the slots of several runners' rollouts side by side, policy by policy.

    A policy has its slots of every runner, also of those in which it completed nothing: buffers count on that.
    """
    examples: dict[str, Rollout] = {}
    for part in rollouts:
        examples |= {name: own for name, own in part.by_policy.items() if name not in examples}
    return AgentRollouts(
        by_policy={
            name: join_rollouts([part.by_policy.get(name) or _nothing(example) for part in rollouts])
            for name, example in examples.items()
        },
        num_envs=tuple(num_envs for part in rollouts for num_envs in part.num_envs),
        env_steps=sum(part.env_steps for part in rollouts),
        agent_steps=sum(part.agent_steps for part in rollouts),
    )


def split_agent_rollouts(rollout: AgentRollouts, num_parts: int) -> list[AgentRollouts]:
    """Cut a rollout between env slots, as evenly as it goes: each part has all agents of its envs.

    Args:
        rollout: Of at least as many env slots as there are parts.
        num_parts: How many.

    Raises:
        ConfigError: there are fewer env slots.
    """
    num_envs = sum(rollout.num_envs)
    require_slots(num_envs, num_parts)
    part_of = torch.arange(num_envs) * num_parts // num_envs
    parts: list[dict[str, Rollout]] = [{} for _ in range(num_parts)]
    for name, own in rollout.by_policy.items():
        part_of_slot = part_of[_envs_of(own, rollout.num_envs)]
        for part, by_policy in enumerate(parts):
            by_policy[name] = slots_of(own, (part_of_slot == part).nonzero().squeeze(-1))
    return [dataclasses.replace(rollout, by_policy=by_policy) for by_policy in parts]


def _envs_of(rollout: Rollout, num_envs: Sequence[int]) -> Tensor:
    """The env `[B]` of each slot of a policy: in a runner they are in order of agent and env slot."""
    num_agents = rollout.reward.shape[1] // sum(num_envs)
    starts = [sum(num_envs[:place]) for place in range(len(num_envs))]
    return torch.cat(
        [torch.arange(start, start + count).repeat(num_agents) for start, count in zip(starts, num_envs, strict=True)]
    )


def _nothing(example: Rollout) -> Rollout:
    """Make a rollout like another in which nothing happened: none of its steps is real."""
    never = torch.zeros_like(example.terminated)
    return dataclasses.replace(
        example,
        terminated=never,
        truncated=never,
        valid=never,
        final_index=example.final_index[:0],
        final_obs=None,
        final_state=(),
        env_steps=0,
        extras={name: None if name.startswith("final_") else column for name, column in example.extras.items()},
    )
