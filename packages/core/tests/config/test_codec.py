import json
import subprocess
import sys
from dataclasses import dataclass

import gymnasium
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_core import AlgorithmConfig, Callbacks, Extension, ModelSettings, ObsConnector, PPOConfig, RLModule
from rl_core.config.codec import Storable, decode, encode, import_path, resolve_import
from rl_core.errors import ConfigError, RLError


@dataclass(frozen=True)
class Scale(ObsConnector):
    factor: float = 0.5
    parts: tuple[int, ...] = ()
    nested: Storable | None = None

    def output_space(self, observation_space, action_space):
        return observation_space

    def __call__(self, state, step):
        return state, step


@dataclass(frozen=True)
class NoExtension(Extension):
    word: str = "a"

    def components(self, components):
        return components


class OwnCallbacks(Callbacks):
    pass


class OwnModule(RLModule):
    def __init__(self, observation_space, action_space, *, size=3):
        super().__init__(observation_space, action_space)


class OwnEnv(gymnasium.Env):
    pass


def make_env(config):
    raise NotImplementedError


@dataclass(frozen=True)
class NotStorable:
    command: str = "x"


def round_trip(config, **options):
    return AlgorithmConfig.from_dict(json.loads(json.dumps(config.to_dict())), **options)


CONFIGS = {
    "defaults": PPOConfig(),
    "numbers": PPOConfig().training(lr=1, gamma=0.1, num_epochs=3).debugging(seed=7).evaluation(evaluation_interval=2),
    "schedules": PPOConfig().training(lr=[[0, 1e-3], [1e5, 0]], entropy_coeff=((0, 0.1), (10, 0.0))),
    "none": PPOConfig().training(grad_clip=None, vf_clip_param=0.3),
    "id": PPOConfig().environment(
        "CartPole-v1", env_config={"sutton_barto_reward": True, "deep": {"a": None, "b": 1.5}}
    ),
    "env class": PPOConfig().environment(OwnEnv),
    "env function": PPOConfig().environment(make_env),
    "connectors": PPOConfig().env_runners(env_to_module_connector=(Scale(), Scale(2.0, (1, 2), Scale(3.0)))),
    "model settings": PPOConfig().rl_module(model_config=ModelSettings(fcnet_hiddens=(3,), conv_filters=((8, 3, 2),))),
    "model dict": PPOConfig().rl_module(model_config={"fcnet_hiddens": [3, 4]}),
    "own module": PPOConfig().rl_module(module_class=OwnModule, model_config={"size": 4}),
    "callbacks": PPOConfig().callbacks(callbacks_class=(OwnCallbacks, Callbacks)),
    "extension": PPOConfig().use(NoExtension("b")).use(NoExtension()),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_config_comes_back_from_json_as_it_was(name):
    config = CONFIGS[name]
    back = round_trip(config, allow=(__name__.partition(".")[0],))
    assert type(back) is type(config)
    assert back._values == config._values
    assert back.extensions == config.extensions
    assert back.to_dict() == config.to_dict()
    assert repr(back) == repr(config)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=4).filter(lambda key: not key.startswith("$")), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(json_values)
def test_plain_data_comes_back_as_it_was_with_lists_as_tuples(value):
    assert decode(json.loads(json.dumps(encode(value)))) == value


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (PPOConfig().environment(lambda config: None), r"^environment\.env: a lambda cannot be stored"),
        (
            PPOConfig().environment("A", env_config={"f": lambda: 0}),
            r"^environment\.env_config: a lambda cannot be stored",
        ),
        (PPOConfig().environment("A", env_config={"$import": "x"}), r"^environment\.env_config: Mapping keys"),
        (
            PPOConfig().environment("A", env_config={"d": {1: 2}}),
            r"^environment\.env_config: Mapping keys must be strings",
        ),
    ],
)
def test_what_has_no_stored_form_is_refused_with_the_settings_name(config, message):
    with pytest.raises(ConfigError, match=message):
        config.to_dict()


def test_a_function_defined_inside_another_is_refused():
    def inner(config):
        return None

    with pytest.raises(ConfigError, match=r"environment\.env: .*inner' cannot be stored: it has no import path"):
        PPOConfig().environment(inner).to_dict()


def test_an_extension_that_cannot_be_stored_is_named():
    with pytest.raises(ConfigError, match="extension 0.*NoExtension.*lambda"):
        PPOConfig().use(NoExtension(word=lambda: 0)).to_dict()


def test_an_instance_is_noted_and_refused_on_loading_with_what_to_do():
    stored = PPOConfig().callbacks(callbacks_class=OwnCallbacks()).to_dict()
    with pytest.raises(
        ConfigError, match=r"An instance of .*:OwnCallbacks was given to the config.*Algorithm\.restore"
    ):
        PPOConfig.from_dict(stored)


def test_a_connector_that_is_no_dataclass_is_refused_with_what_to_do():
    class Plain(Storable):
        pass

    with pytest.raises(ConfigError, match=r"Plain cannot be stored: write @dataclass\(frozen=True\) above the class"):
        encode(Plain())


def test_modules_that_are_not_imported_need_to_be_allowed(tmp_path, monkeypatch):
    (tmp_path / "foreign_envs.py").write_text("import gymnasium\n\n\nclass Env(gymnasium.Env):\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    stored = PPOConfig().to_dict()
    for env in ({"$import": "foreign_envs:Env"}, "foreign_envs:Env-v0"):
        stored["sections"]["environment"]["env"] = env
        with pytest.raises(ConfigError, match=r"names the module 'foreign_envs'.*--allow foreign_envs"):
            PPOConfig.from_dict(stored)
        assert "foreign_envs" not in sys.modules
    stored["sections"]["environment"]["env"] = {"$import": "foreign_envs:Env"}
    config = PPOConfig.from_dict(stored, allow=["foreign_envs"])
    assert config.environment.env.__name__ == "Env"
    monkeypatch.delitem(sys.modules, "foreign_envs")


def test_a_file_creates_objects_of_storable_classes_only():
    stored = PPOConfig().to_dict()
    for thing in (NotStorable, ModelSettings, OwnEnv):
        stored["sections"]["environment"]["env_config"] = {"x": {"$object": import_path(thing), "fields": {}}}
        with pytest.raises(ConfigError, match="is not a connector or extension; a file may not create it"):
            PPOConfig.from_dict(stored)


def test_a_class_that_is_no_config_is_refused():
    for path in (import_path(NotStorable), "rl_core.records:Step", "x", "", ":", "rl_core:", None, 3):
        with pytest.raises(ConfigError):
            AlgorithmConfig.from_dict({**PPOConfig().to_dict(), "config": path})


MALICIOUS = [
    "os:system",
    "posix:system",
    "nt:system",
    "subprocess:Popen",
    "builtins:exec",
    "builtins:eval",
    "builtins:__import__",
    "logging.config:dictConfig",
    "runpy:run_path",
    "rl_core.checkpoint:os.system",
    "rl_core.checkpoint:shutil.rmtree",
    "rl_core.config.codec:importlib.import_module",
    "rl_core.config.codec:sys.exit",
    "rl_core.errors:RLError.__base__",
    "rl_core:__builtins__",
    "rl_core.records:np.load",
    "sys:exit",
    "gc:collect",
]


@pytest.mark.parametrize("path", MALICIOUS)
def test_a_file_cannot_reach_functions_that_nobody_wrote_for_it(path):
    import logging.config
    import runpy
    import subprocess as loaded

    assert logging.config
    assert runpy
    assert loaded
    for section, setting in (("environment", "env"), ("callbacks", "callbacks_class"), ("rl_module", "module_class")):
        stored = PPOConfig().to_dict()
        stored["sections"][section][setting] = {"$import": path}
        with pytest.raises(ConfigError):
            PPOConfig.from_dict(stored)


def test_a_malicious_file_runs_nothing_even_when_built(tmp_path):
    trace = tmp_path / "trace"
    script = f"""
import json, logging.config, sys
from rl_core import PPOConfig
touch = {{"args": ["touch", {str(trace)!r}]}}
logging_attack = {{"version": 1, "formatters": {{"x": {{"()": "os.system", "command": "touch {trace}"}}}}}}
for path, env_config in [("subprocess:Popen", touch), ("logging.config:dictConfig", logging_attack),
                         ("rl_core.checkpoint:shutil.rmtree", {{"path": {str(tmp_path)!r}}})]:
    for vectorize in ("sync", "vector_entry_point"):
        stored = PPOConfig().to_dict()
        stored["sections"]["environment"].update(env={{"$import": path}}, env_config=env_config)
        stored["sections"]["env_runners"]["gym_env_vectorize_mode"] = vectorize
        try:
            PPOConfig.from_dict(json.loads(json.dumps(stored))).build()
        except Exception as error:
            print(type(error).__name__)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=600)
    assert done.stdout.split() == ["ConfigError"] * 6
    assert not trace.exists()


def test_a_class_that_is_no_callbacks_is_not_even_called():
    called = []

    class Loud:
        def __init__(self):
            called.append(self)

    config = PPOConfig().environment("CartPole-v1").callbacks(callbacks_class=Loud)
    with pytest.raises(ConfigError, match="expected a class derived from Callbacks"):
        config.build()
    assert called == []


def paths_of(data, path=()):
    yield path
    if isinstance(data, dict):
        for key, value in data.items():
            yield from paths_of(value, (*path, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from paths_of(value, (*path, index))


def replaced(data, path, value):
    if not path:
        return value
    copied = dict(data) if isinstance(data, dict) else list(data)
    copied[path[0]] = replaced(data[path[0]], path[1:], value)
    return copied


STORED = json.loads(json.dumps(CONFIGS["connectors"].copy().use(NoExtension()).to_dict()))


@settings(max_examples=200)
@given(
    path=st.sampled_from(list(paths_of(STORED))), value=json_values | st.just({"$object": 3}) | st.just({"$import": []})
)
def test_a_damaged_file_is_refused_with_our_errors_only(path, value):
    value = json.loads(json.dumps(encode(value))) if not isinstance(value, dict) else value
    try:
        config = AlgorithmConfig.from_dict(replaced(STORED, path, value))
    except RLError:
        return
    assert isinstance(config, AlgorithmConfig)


def test_import_path_and_resolve_import_are_inverse():
    for thing in (PPOConfig, OwnModule, make_env, OwnModule.forward_value, Scale):
        path = import_path(thing)
        if thing is not OwnModule.forward_value:
            assert resolve_import(path, allow=(path.partition(".")[0],)) is thing


def test_a_function_is_called_only_if_its_package_is_allowed():
    path = import_path(make_env)
    with pytest.raises(ConfigError, match="names the function .*, to be called. If you trust it, allow"):
        resolve_import(path)
    assert resolve_import(path, allow=(path.partition(".")[0],)) is make_env


def test_a_path_that_leads_nowhere_is_refused():
    with pytest.raises(ConfigError, match="cannot be found"):
        resolve_import("rl_core.records:Nothing")
    with pytest.raises(ConfigError, match="cannot be found"):
        resolve_import("rl_core.nothing:Nothing")
    with pytest.raises(ConfigError, match=r"'__main__:Watch' cannot be found .* in a script that has it too, and call"):
        resolve_import("__main__:Watch")
    with pytest.raises(ConfigError, match="is not an import path, expected 'module:name'"):
        resolve_import("rl_core.records")
