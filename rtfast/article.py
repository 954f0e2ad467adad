"""The worked example of the article "The Random Transformer": its words, its matrices, its sizes.

Its conventions are those of `Config.article()`. Matrices are row-major, x @ W, x (length, d_model).
The values of W_Q1 and W_K2 are those of the article's code, which its printed results come from.
"""

VOCABULARY = ("hello", "mundo", "world", "how", "?", "EOS", "SOS", "a", "hola", "c")

TOKENS = ("hello", "world")

#: the embedding of the two words, (2, d_model)
EMBEDDING = ((1, 2, 3, 4), (2, 3, 4, 5))

#: the positional encoding as the article rounds it, (2, d_model)
POSITIONAL_ENCODING = ((0, 1, 0, 1), (0.84, 0.99, 0, 1))

#: query, key and value weights of the first encoder layer, one (d_model, 3) matrix per head
W_QUERY = (((0, 0, 0), (1, 1, 0), (0, 0, 1), (1, 0, 0)),
           ((1, 0, 1), (0, 1, 0), (1, 0, 0), (0, 1, 1)))
W_KEY = (((1, 0, 1), (0, 1, 0), (1, 0, 1), (0, 1, 0)),
         ((0, 1, 1), (1, 0, 1), (1, 1, 0), (0, 1, 0)))
W_VALUE = (((0, 1, 1), (1, 0, 0), (1, 0, 1), (0, 1, 0)),
           ((1, 0, 0), (0, 1, 1), (0, 0, 1), (1, 0, 0)))

#: output projection of the first encoder layer, (n_heads * d_value, d_model)
W_OUTPUT = ((0.79445237, 0.1081456, 0.27411536, 0.78394531),
            (0.29081936, -0.36187258, -0.32312791, -0.48530339),
            (-0.36702934, -0.76471963, -0.88058366, -1.73713022),
            (-0.02305587, -0.64315981, -0.68306653, -1.25393866),
            (0.29077448, -0.04121674, 0.01509932, 0.13149906),
            (0.57451867, -0.08895355, 0.02190485, 0.24535932))

#: what the article divides the scores by, once, in place of sqrt(3), so that no word takes all the attention
SOFTER_SCALE = 1 / 30
