"""The forms of layer norm, and the codes that the backends know them by."""

#: paper: (x - mean) / sqrt(variance + eps); article: (x - mean) / (std + eps), as in "The Random Transformer";
#: rms: x / sqrt(mean square + eps), without mean and beta, as in T5. (False and True serve as the first two.)
NORMS = {"paper": 0, "article": 1, "rms": 2}
