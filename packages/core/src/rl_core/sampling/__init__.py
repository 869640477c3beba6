"""The loop between env and module: rollouts for learning, whole episodes for evaluation."""
