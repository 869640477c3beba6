"""The config of an algorithm, the components it is made of, and the loop that runs them."""
