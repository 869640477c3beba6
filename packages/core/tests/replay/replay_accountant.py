"""A slow, literal account of what a replay buffer holds, and random rollouts to fill both with."""

import dataclasses
import itertools

import torch

from rl_core.records import Rollout


@dataclasses.dataclass
class StepEntry:
    obs: float
    action: int
    reward: float
    terminated: bool
    truncated: bool
    valid: bool
    final: float | None
    state: float

    @property
    def ends(self):
        return self.terminated or self.truncated


class Accountant:
    """Lists of steps, one row of B slots after the other; windows are followed step by step."""

    def __init__(self, capacity, num_slots):
        self.num_slots = num_slots
        self.most_rows = -(-capacity // num_slots)
        self.rows = []
        self.head = None
        self.num_written = 0

    def add(self, rollout):
        num_steps = rollout.reward.shape[0]
        finals = {}
        if len(rollout.final_index):
            finals = dict(zip(rollout.final_index.tolist(), rollout.final_obs[:, 0].tolist(), strict=True))
        if self.rows and num_steps <= self.most_rows:
            for slot, entry in enumerate(self.rows[-1]):
                if rollout.obs[0, slot, 0] != self.head[slot] and entry.valid and entry.final is None:
                    entry.final = self.head[slot]
                    entry.truncated = entry.truncated or not entry.terminated
        for time in range(max(0, num_steps - self.most_rows), num_steps):
            self.rows.append(
                [
                    StepEntry(
                        obs=rollout.obs[time, slot, 0].item(),
                        action=rollout.action[time, slot].item(),
                        reward=rollout.reward[time, slot].item(),
                        terminated=rollout.terminated[time, slot].item(),
                        truncated=rollout.truncated[time, slot].item(),
                        valid=rollout.valid is None or rollout.valid[time, slot].item(),
                        final=finals.get(time * self.num_slots + slot),
                        state=rollout.state[time, slot, 0].item(),
                    )
                    for slot in range(self.num_slots)
                ]
            )
            self.num_written += 1
        self.head = rollout.obs[num_steps, :, 0].tolist()
        self.rows = self.rows[-self.most_rows :]

    def starts(self):
        """Every place a transition may begin at, with its row and slot here."""
        first = self.num_written - len(self.rows)
        return {
            (first + row) % (self.most_rows + 1) * self.num_slots + slot: (row, slot)
            for row, slot in itertools.product(range(len(self.rows)), range(self.num_slots))
            if self.rows[row][slot].valid
        }

    def obs_at(self, row, slot):
        return self.head[slot] if row == len(self.rows) else self.rows[row][slot].obs

    def window(self, row, slot, length):
        entries = []
        while len(entries) < length and row + len(entries) < len(self.rows):
            entry = self.rows[row + len(entries)][slot]
            if not entry.valid:
                break
            entries.append(entry)
            if entry.ends:
                break
        return entries

    def transition(self, place, n, gamma):
        row, slot = self.starts()[place]
        entries = self.window(row, slot, n)
        reward = sum(gamma**step * entry.reward for step, entry in enumerate(entries))
        last = entries[-1]
        following = self.obs_at(row + len(entries), slot) if last.final is None else last.final
        discount = 0.0 if last.terminated else gamma ** len(entries)
        return entries[0].obs, entries[0].action, reward, following, discount

    def sequence(self, place, length):
        row, slot = self.starts()[place]
        entries = self.window(row, slot, length)
        valid = [entry.final is None or entry.terminated for entry in entries]
        following = self.obs_at(row + len(entries), slot)
        return entries, valid, following


class RolloutSource:
    """Random rollouts that go on from each other; observations, actions and states are numbers that never repeat."""

    def __init__(self, num_slots, rng, *, same_step, p_end=0.25, p_apart=0.1):
        self.num_slots, self.rng, self.same_step = num_slots, rng, same_step
        self.p_end, self.p_apart = p_end, p_apart
        self.counter = itertools.count(1)
        self.obs = self.numbers()
        self.resetting = [False] * num_slots

    def numbers(self):
        return [float(next(self.counter)) for _ in range(self.num_slots)]

    def rollout(self, num_steps):
        B, rng = self.num_slots, self.rng
        if rng.random() < self.p_apart:
            self.obs = self.numbers()
            self.resetting = [False] * B
        obs, final_index, final_obs = [self.obs], [], []
        flags = torch.zeros(3, num_steps, B, dtype=torch.bool)  # terminated, truncated, artificial
        for time in range(num_steps):
            obs.append(self.numbers())
            for slot in range(B):
                if self.resetting[slot]:
                    flags[2, time, slot] = True
                    self.resetting[slot] = False
                elif rng.random() < self.p_end:
                    flags[rng.integers(2), time, slot] = True
                    if self.same_step:
                        final_index.append(time * B + slot)
                        final_obs.append(-float(next(self.counter)))
                    else:
                        self.resetting[slot] = True
        self.obs = obs[-1]
        reward = torch.from_numpy(rng.normal(size=(num_steps, B))).float()
        table = torch.tensor(obs).unsqueeze(-1)
        return Rollout(
            obs=table.repeat(1, 1, 2),
            action=table[:-1, :, 0].long() * 10,
            reward=reward,
            terminated=flags[0],
            truncated=flags[1],
            valid=~flags[2] if flags[2].any() else None,
            final_index=torch.tensor(final_index, dtype=torch.int64),
            final_obs=torch.tensor(final_obs).unsqueeze(-1).repeat(1, 2) if final_index else None,
            behavior_dist_inputs=torch.zeros(num_steps, B, 1),
            policy_version=0,
            state=table * 100,
            env_steps=int((~flags[2]).sum()),
        )
