"""How often the shipped model says exactly what the grammar says, on sentences that it never saw in training.

    python evaluate.py ../../rtfast/models/en_es --count 3000
"""

import argparse
import collections

import grammar

import rtfast


def evaluate(model, count, seed=1):
    """({kind: (right, all)}, wrong): wrong as (English, Spanish, what the model said)."""
    pairs = grammar.held_out_pairs(count, seed)
    tokenizer = model.tokenizer
    outputs = model.generate([tokenizer.encode(english) for _, english, _ in pairs], 60)
    right, every, wrong = collections.Counter(), collections.Counter(), []
    for (kind, english, spanish), ids in zip(pairs, outputs, strict=True):
        said = " ".join(tokenizer.tokens(ids[:-1] if ids[-1] == model.config.eos_id else ids))
        every[kind] += 1
        right[kind] += said == spanish
        if said != spanish:
            wrong.append((english, spanish, said))
    return {kind: (right[kind], every[kind]) for kind in every}, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    kinds, wrong = evaluate(rtfast.load(arguments.folder), arguments.count, arguments.seed)
    for english, spanish, said in wrong[:30]:
        print(f"{english}\n  must be {spanish}\n  said    {said}")
    for kind, (right, every) in kinds.items():
        print(f"{kind:14} {right} of {every}, {right / every:.2%}")
    right, every = (sum(column) for column in zip(*kinds.values(), strict=True))
    print(f"{'all':14} {right} of {every}, {right / every:.2%}")


if __name__ == "__main__":
    main()
