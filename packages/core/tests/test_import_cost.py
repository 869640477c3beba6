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
)


def modules_after(code):
    script = f"import sys, json\n{code}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_library_imports_nothing_heavy():
    loaded = modules_after("import torch; before = set(sys.modules)\nimport rl_core")
    bare = modules_after("import torch")
    assert [name for name in HEAVY if name in loaded - bare] == []


def test_training_does_not_import_torch_dynamo_or_plotting():
    loaded = modules_after(
        "from rl_core import PPOConfig\n"
        "config = PPOConfig().environment('CartPole-v1').training(train_batch_size_per_learner=64, minibatch_size=32)\n"
        "algorithm = config.build(); algorithm.train(); algorithm.evaluate(num_episodes=1)\n"
    )
    forbidden = ("torch._dynamo", "matplotlib", "rich", "tensorboard", "ray", "pandas")
    assert [name for name in forbidden if name in loaded] == []
