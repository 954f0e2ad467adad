"""A Marian-sized translation model with random weights, as a Hugging Face folder and as a CTranslate2 one."""

import json
import types

import numpy as np

#: Marian's base layout: 512/2048/8 heads, 6 + 6 layers, 32,000 words. Padding is the last word, as in OPUS-MT.
SIZES = {"d_model": 512, "encoder_layers": 6, "decoder_layers": 6, "encoder_attention_heads": 8,
         "decoder_attention_heads": 8, "encoder_ffn_dim": 2048, "decoder_ffn_dim": 2048,
         "max_position_embeddings": 512, "activation_function": "swish", "scale_embedding": True}
WORDS = 32000
EOS, UNKNOWN, PAD = 0, 1, WORDS - 1


def sources(n, lengths, seed=0):
    """n sentences of so many tokens each, EOS their last: `lengths` is a number or (least, most)."""
    random = np.random.default_rng(seed)
    least, most = lengths if isinstance(lengths, tuple) else (lengths, lengths)
    return [[*random.integers(2, PAD, random.integers(least, most + 1) - 1).tolist(), EOS] for _ in range(n)]


def words(ids):
    """A sentence as CTranslate2 takes it."""
    return [f"w{i}" if i > UNKNOWN else ("</s>", "<unk>")[i] for i in ids]


def ids_of(words):
    return [int(word[1:]) if word.startswith("w") else ("</s>", "<unk>").index(word) for word in words]


def make(folder):
    """The checkpoint in folder/hf, and in folder/ct2 where CTranslate2 is installed. The transformers model too."""
    import torch
    import transformers

    torch.manual_seed(0)
    model = transformers.MarianMTModel(transformers.MarianConfig(
        **SIZES, vocab_size=WORDS, pad_token_id=PAD, eos_token_id=EOS, decoder_start_token_id=PAD, bos_token_id=EOS,
        forced_eos_token_id=None)).eval()
    with torch.no_grad():
        model.model.shared.weight[PAD] = 0  # CTranslate2 starts from zeros in its place
    model.save_pretrained(folder / "hf")
    config = json.loads((folder / "hf" / "generation_config.json").read_text())
    (folder / "hf" / "generation_config.json").write_text(json.dumps({**config, "bad_words_ids": [[PAD]]}))
    convert(folder)
    return model


def convert(folder):
    try:
        from ctranslate2.converters import TransformersConverter
    except ImportError:
        return
    vocabulary = {word: i for i, word in enumerate([*words(range(PAD)), "<pad>"])}

    class Converter(TransformersConverter):
        """The folder has no tokenizer files: its words are w2, w3, ..."""

        def load_tokenizer(self, tokenizer_class, name, **kwargs):
            return types.SimpleNamespace(get_vocab=lambda: vocabulary, eos_token="</s>", unk_token="<unk>",
                                         pad_token="<pad>", bos_token=None, special_tokens_map={})

    Converter(str(folder / "hf")).convert(str(folder / "ct2"), force=True)
