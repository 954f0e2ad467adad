"""Names of the activations between two linear layers, and the codes that the backends know them by."""

#: relu is the paper's (section 3.3); gelu is x Phi(x), gelu_tanh its tanh approximation, silu x sigmoid(x).
ACTIVATIONS = {None: 0, "relu": 1, "gelu": 2, "gelu_tanh": 3, "silu": 4}

#: Further functions of every element that the backends' `activate` knows: those that the activations are made of.
ELEMENTARY = {"exp": 5, "erf": 6, "tanh": 7}
