"""A convolutional module of one's own on images, compared in speed with the library's.

Shows: an RLModule with layers of torch for images, shared by policy and value function; `forward_train` runs them once
for both. Images arrive as bytes, with the channels last, in any number of leading axes. What makes convolutions fast on
a CPU is their memory format: permuted only, never copied, the channels stay last in memory.
With `pip install ale-py` (and `--env ALE/Pong-v5`) it plays Pong on the raw screen. Without it, it catches a falling
ball on a screen of 42 x 42 pixels: the env below, in which a random policy returns -0.5 or so and the best 1.
Criterion: the loss of the value function falls to less than half of the first iteration's, and a step forwards and
backwards takes at most 1.25 times as long as that of the default module; on the small screen, besides, an evaluation
return of 0.8 within 200,000 env steps.
Command: python examples/rl_modules/custom_cnn_rl_module.py --as-test --seed 0
Reached: REACHED_CNN
"""
