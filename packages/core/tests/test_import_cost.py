import json
import subprocess
import sys

HEAVY = (
    "ray",
    "matplotlib",
    "rich",
    "tensorboard",
    "gymnasium.envs.classic_control",
    "torch._dynamo",
    "torch.distributions",
    "pandas",
    "scipy",
    "pygame",
    "imageio",
    "mlflow",
    "wandb",
)


def modules_after(code):
    script = f"import sys, json\n{code}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=600)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_config_imports_nothing_heavy():
    ours = modules_after(
        "import torch\n"
        "bare = set(sys.modules)\n"
        "from rl_core import PPOConfig\n"
        "for name in bare:\n"
        "    del sys.modules[name]\n"
    )
    assert "rl_core.algorithms.ppo" in ours
    assert [name for name in HEAVY if name in ours] == []


def test_a_process_that_only_steps_an_env_does_not_import_torch():
    assert "torch" not in modules_after("import rl_core.env.make, rl_core.env.workers")


def test_looking_around_in_the_shell_does_not_import_torch(tmp_path):
    loaded = modules_after(
        "import rl_core\n"
        "from rl_core.cli import main\n"
        "arguments = (['--help'], ['train', '--help'], ['train', '--stop-rewrd', '1'], ['trian'],\n"
        f"    ['list', {str(tmp_path)!r}], ['plot', {str(tmp_path)!r}, '-o', 'a.png'])\n"
        "assert list(map(main, arguments)) == [0, 0, 2, 2, 0, 2]\n"
    )
    assert loaded & {"torch", "gymnasium", "rich", "matplotlib"} == set()
    assert {"rl_core.cli.list_runs", "rl_core.runs.report"} <= loaded, "the commands ran"


def test_each_module_can_be_the_first_to_be_imported():
    modules_after(
        "import importlib, pkgutil, rl_core\n"
        "for module in [*pkgutil.walk_packages(rl_core.__path__, 'rl_core.')]:\n"
        "    for name in [name for name in sys.modules if name.startswith('rl_core')]:\n"
        "        del sys.modules[name]\n"
        "    importlib.import_module(module.name)\n"
    )
