import pytest

from rl_core import Callbacks
from rl_core.algorithm.callbacks import CallbackList
from rl_core.errors import ConfigError


class First(Callbacks):
    def __init__(self):
        self.seen = []

    def on_train_result(self, *, algorithm, result):
        self.seen.append((algorithm, result))


class Second(First):
    def on_episode_end(self, *, episode, metrics):
        pass


def test_members_are_made_of_classes_and_instances_kept():
    instance = First()
    members = CallbackList((First, instance)).members
    assert type(members[0]) is First
    assert members[1] is instance
    assert CallbackList(None).members == []
    assert type(CallbackList(Second).members[0]) is Second


def test_events_reach_every_member_in_order():
    callbacks = CallbackList((First, Second, Callbacks))
    callbacks.call("on_train_result", algorithm=1, result={})
    assert [member.seen for member in callbacks.members[:2]] == [[(1, {})]] * 2


def test_an_event_is_listened_to_only_where_some_member_defines_it():
    assert not CallbackList(First).listens("on_episode_end")
    assert CallbackList((First, Second)).listens("on_episode_end")
    assert not CallbackList(None).listens("on_train_result")


@pytest.mark.parametrize("wrong", [3, int, "First", (First, dict), lambda: First()])
def test_what_is_no_callbacks_class_is_refused(wrong):
    with pytest.raises(ConfigError, match="callbacks_class: got .*, expected a class derived from Callbacks"):
        CallbackList(wrong)


class Misspelt(Callbacks):
    def on_epsiode_end(self, *, episode, metrics):
        pass


@pytest.mark.parametrize("given", [Misspelt, Misspelt(), (First, Misspelt)])
def test_a_method_that_is_no_event_is_refused_with_the_nearest(given):
    with pytest.raises(ConfigError, match=r"Misspelt\.on_epsiode_end is no event .*Did you mean 'on_episode_end'"):
        CallbackList(given)
