"""Pure functions on tensors: returns and losses. They import torch and nothing else of the library."""
