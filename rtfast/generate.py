"""Generation: the decoder one word at a time (section 3.1: auto-regressive), the words before cached."""


def check_limit(config, max_new_tokens):
    """How many tokens to generate at most: max_new_tokens, or as many as the model has positions.

    Raises ValueError where the config has no sos_id or the limit is not from 1 to max_length, TypeError
    for a limit that is no integer.
    """
    if config.sos_id is None:
        raise ValueError("generate: the config has no sos_id to start from")
    if max_new_tokens is None:
        return config.max_length
    if isinstance(max_new_tokens, bool) or not hasattr(max_new_tokens, "__index__"):
        raise TypeError(f"max_new_tokens must be an integer, got {max_new_tokens!r}")
    if not 1 <= max_new_tokens <= config.max_length:
        raise ValueError(f"max_new_tokens must be from 1 to the model's max_length of {config.max_length}, "
                         f"got {max_new_tokens}")
    return int(max_new_tokens)


def greedy(workspace, decoder, n, config, limit):
    """The likeliest next word of n encoded sentences, again and again, until EOS or `limit` words.

    decoder: the workspace's program that chooses the next id. Finished sentences leave the batch.
    Returns the ids of each sentence, and the first sentence whose logits turned NaN, or None.
    """
    outputs = [[] for _ in range(n)]
    running = list(range(n))  # the sentence behind each row of the step
    latest, bad = [config.sos_id] * n, None
    workspace.begin_steps(n)
    for position in range(limit):
        workspace.step(decoder, latest, position)
        latest = workspace.result(decoder, "next_id")[:, 0].tolist()
        for row, sentence in enumerate(running):
            outputs[sentence].append(latest[row])
            if bad is None:
                top = workspace.number(decoder, "logits", row, latest[row])
                bad = sentence if top != top else None
        going_on = [row for row, word in enumerate(latest) if word != config.eos_id]
        if not going_on:
            break
        if len(going_on) < len(running):
            workspace.keep(going_on)
            running = [running[row] for row in going_on]
            latest = [latest[row] for row in going_on]
    return outputs, bad
