"""Hugging Face folders of every family, made here by transformers with random weights: equal states and logits."""

import itertools
import json
import os
import pathlib
import time

import numpy as np
import pytest

import rtfast
from rtfast.packing import bucket

transformers = pytest.importorskip("transformers", reason="transformers is not installed: no models to compare with")
torch = pytest.importorskip("torch", reason="PyTorch is not installed: no models to compare with")
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

TOLERANCE = 2e-5
#: d_model, heads, d_ff, layers, vocabulary: odd ones
SIZES = ((40, 4, 50, 2, 61), (24, 3, 31, 3, 101), (66, 6, 97, 1, 67))


def fairseq(d_model, heads, d_ff, layers, vocabulary, **more):
    return {"vocab_size": vocabulary, "d_model": d_model, "encoder_layers": layers, "decoder_layers": layers,
            "encoder_attention_heads": heads, "decoder_attention_heads": heads, "encoder_ffn_dim": d_ff,
            "decoder_ffn_dim": d_ff, "max_position_embeddings": 97, "pad_token_id": 1, "eos_token_id": 2,
            "bos_token_id": 0, "decoder_start_token_id": 2, **more}


def t5(d_model, heads, d_ff, layers, vocabulary, **more):
    return transformers.T5ForConditionalGeneration(transformers.T5Config(
        vocab_size=vocabulary, d_model=d_model, d_kv=7, d_ff=d_ff, num_layers=layers, num_decoder_layers=layers + 1,
        num_heads=heads, decoder_start_token_id=0, **more))


def marian(*sizes, **more):
    return transformers.MarianMTModel(transformers.MarianConfig(**fairseq(*sizes, **more)))


MODELS = {
    "marian": lambda *sizes: marian(*sizes, activation_function="swish", scale_embedding=True),
    "marian, own words": lambda *sizes: marian(
        *sizes, share_encoder_decoder_embeddings=False, decoder_vocab_size=sizes[-1] + 2, tie_word_embeddings=True),
    "bart": lambda *sizes: transformers.BartForConditionalGeneration(transformers.BartConfig(
        **fairseq(*sizes, scale_embedding=False))),
    "mbart": lambda *sizes: transformers.MBartForConditionalGeneration(transformers.MBartConfig(
        **fairseq(*sizes, scale_embedding=True))),
    "m2m100": lambda *sizes: transformers.M2M100ForConditionalGeneration(transformers.M2M100Config(
        **fairseq(*sizes, scale_embedding=True))),
    "marian, untied": lambda *sizes: marian(*sizes, tie_word_embeddings=False),
    "marian, own words, untied": lambda *sizes: marian(
        *sizes, share_encoder_decoder_embeddings=False, decoder_vocab_size=sizes[-1] + 2, tie_word_embeddings=False),
    "bart, untied": lambda *sizes: transformers.BartForConditionalGeneration(transformers.BartConfig(
        **fairseq(*sizes, tie_word_embeddings=False))),
    "m2m100, untied": lambda *sizes: transformers.M2M100ForConditionalGeneration(transformers.M2M100Config(
        **fairseq(*sizes, tie_word_embeddings=False))),
    "mt5": lambda d_model, heads, d_ff, layers, vocabulary: transformers.MT5ForConditionalGeneration(
        transformers.MT5Config(vocab_size=vocabulary, d_model=d_model, d_kv=7, d_ff=d_ff, num_layers=layers,
                               num_heads=heads, decoder_start_token_id=0)),
    "t5": t5,
    "t5, gated": lambda *sizes: t5(*sizes, feed_forward_proj="gated-gelu"),
    "flan": lambda *sizes: t5(*sizes, feed_forward_proj="gated-gelu", scale_decoder_outputs=False),
}


def make(name, sizes, seed, folder):
    """A checkpoint in `folder`, whose every weight counts, and the model in float64."""
    torch.manual_seed(seed)
    model = MODELS[name](*sizes).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn(parameter.shape))
        if hasattr(model, "final_logits_bias"):
            model.final_logits_bias.normal_()
    if name == "flan":  # an output layer of its own, which transformers now ties away
        untie(model, folder)
    else:
        model.save_pretrained(folder)
    return model.double()


def untie(model, folder):
    import safetensors.torch

    model.lm_head.weight = torch.nn.Parameter(torch.randn(model.lm_head.weight.shape))
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()
               if not name.endswith("embed_tokens.weight")}
    folder.mkdir(exist_ok=True)
    safetensors.torch.save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({**model.config.to_diff_dict(), "model_type": "t5"}))


def close(got, expected):
    largest = np.abs(expected).max()
    assert got.dtype == np.float32 and got.shape == expected.shape
    assert np.abs(got - expected).max() <= TOLERANCE * largest, np.abs(got - expected).max() / largest


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_states_and_logits(backend, tmp_path, name, sizes, seed):
    model = make(name, sizes, seed, tmp_path / "model")
    ours = rtfast.load(tmp_path / "model")
    for length, target in ((1, 1), (13, 7), (53, 89)):
        source, read = (torch.randint(3, sizes[-1], (2, n)) for n in (length, target))
        with torch.no_grad():
            expected = model(input_ids=source, decoder_input_ids=read)
        close(ours.encode(source.numpy()), expected.encoder_last_hidden_state.numpy())
        close(ours.logits(source.numpy(), read.numpy()), expected.logits.numpy())


@pytest.mark.parametrize("name", MODELS)
def test_traced_is_untraced_and_saved_again_is_the_same(backend, tmp_path, name):
    make(name, SIZES[0], 0, tmp_path / "model")
    ours, source, target = rtfast.load(tmp_path / "model"), [5, 9, 4, 3], [2, 7, 8]
    logits = ours.logits(source, target)
    trace = ours.trace(source, target)
    assert np.array_equal(trace["logits"], logits) and all(trace.formula(step) for step in trace)
    ours.save(tmp_path / "again")
    assert np.array_equal(rtfast.load(tmp_path / "again").logits(source, target), logits)


@pytest.mark.parametrize("name", MODELS)
def test_cached_steps_are_the_full_pass(backend, tmp_path, name):
    """Greedy, step by step from the cache, is what the logits of the whole target say."""
    make(name, SIZES[1], 3, tmp_path / "model")
    ours, source = rtfast.load(tmp_path / "model"), [5, 9, 4, 3, 11]
    ids = ours.generate(source, max_new_tokens=40, forced_eos_token_id=None)
    logits = ours.logits(source, [ours.config.sos_id, *ids[:-1]])
    assert logits.argmax(axis=1).tolist() == ids[:len(logits)]  # T5 may write words that are padding when read


LEFT_OUT = "left out"


@pytest.mark.parametrize("name, fields", [
    ("m2m100", {"scale_embedding": LEFT_OUT}), ("bart", {"scale_embedding": LEFT_OUT}),
    ("mbart", {"scale_embedding": LEFT_OUT}), ("marian", {"scale_embedding": LEFT_OUT}),
    ("t5", {"tie_word_embeddings": None, "scale_decoder_outputs": LEFT_OUT}),
    ("t5", {"tie_word_embeddings": False, "scale_decoder_outputs": LEFT_OUT}),
    ("t5", {"tie_word_embeddings": False, "scale_decoder_outputs": True}),
    ("t5", {"scale_decoder_outputs": LEFT_OUT, "tie_word_embeddings": LEFT_OUT}),
    ("mt5", {"scale_decoder_outputs": True}), ("mt5", {"tie_word_embeddings": True, "transformers_version": "4.20.0"}),
    ("mt5", {"feed_forward_proj": LEFT_OUT}), ("bart", {"eos_token_id": [2, 9]}),
], ids=str)
def test_fields_left_out_or_odd(tmp_path, name, fields):
    """They mean what they mean to transformers."""
    make(name, SIZES[0], 4, tmp_path)
    path = tmp_path / "config.json"
    written = {**json.loads(path.read_text()), **fields}
    path.write_text(json.dumps({name: value for name, value in written.items() if value != LEFT_OUT}))
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path, dtype=torch.float64)
    ours = rtfast.load(tmp_path)
    with torch.no_grad():
        expected = model(input_ids=torch.tensor([[5, 9, 4]]), decoder_input_ids=torch.tensor([[2, 7]]))
    close(ours.encode([5, 9, 4]), expected.encoder_last_hidden_state[0].numpy())
    close(ours.logits([5, 9, 4], [2, 7]), expected.logits[0].numpy())


@pytest.mark.parametrize("name", ["marian", "bart", "t5"])
def test_padding_that_is_eos(tmp_path, name):
    """transformers masks nothing then: the EOS of a sentence is read."""
    make(name, SIZES[0], 2, tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**fields, "pad_token_id": fields["eos_token_id"]}))
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path, dtype=torch.float64)
    ours, source = rtfast.load(tmp_path), [5, 9, 4, fields["eos_token_id"]]
    target = [7, 8, fields["eos_token_id"]]
    with torch.no_grad():
        expected = model(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([target]))
    close(ours.encode(source), expected.encoder_last_hidden_state[0].numpy())
    close(ours.logits(source, target), expected.logits[0].numpy())


def test_relative_buckets_are_transformers():
    attention = transformers.models.t5.modeling_t5.T5Attention
    config = rtfast.Config(11, positions="relative")
    distance = np.arange(-3000, 3000)
    for bidirectional in (False, True):
        theirs = attention._relative_position_bucket(
            torch.tensor(distance), bidirectional=bidirectional, num_buckets=32, max_distance=128)
        assert np.array_equal(bucket(distance, config, bidirectional=bidirectional), theirs.numpy())


# Files -------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("marian")
    make("marian", SIZES[0], 0, path)
    return path


def copy(folder, to, **fields):
    """The folder's files at `to`, with other fields in config.json; None takes one out."""
    to.mkdir()
    config = {**json.loads((folder / "config.json").read_text()), **fields}
    (to / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None or k not in fields}))
    os.symlink(folder / "model.safetensors", to / "model.safetensors")
    return to


def test_shards(folder, tmp_path):
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    source, target = [4, 5, 6], [2, 3]
    assert np.array_equal(rtfast.load(tmp_path).logits(source, target), rtfast.load(folder).logits(source, target))


@pytest.mark.parametrize("name", ["marian", "marian, own words", "bart", "m2m100", "t5"])
def test_tied_copies_as_older_files_hold_them(tmp_path, name):
    """They are left out, and the result is that of the file without; one that differs is a matrix of its own."""
    import safetensors.torch

    make(name, SIZES[0], 5, tmp_path / "new")
    path = tmp_path / "old" / "model.safetensors"
    tensors = safetensors.torch.load_file(tmp_path / "new" / "model.safetensors")
    of_target = next(key for key in ("model.decoder.embed_tokens.weight", "model.shared.weight", "shared.weight")
                     if key in tensors)
    prefix = "model." if of_target.startswith("model.") else ""
    tensors["lm_head.weight"] = tensors[of_target].clone()
    if of_target.endswith("shared.weight"):
        for side in ("encoder", "decoder"):
            tensors[f"{prefix}{side}.embed_tokens.weight"] = tensors[of_target].clone()
    copy(tmp_path / "new", tmp_path / "old")
    path.unlink()
    safetensors.torch.save_file(tensors, path)
    new, old = rtfast.load(tmp_path / "new"), rtfast.load(tmp_path / "old")
    expected = new.logits([4, 5, 6], [2, 3])
    assert old.config == new.config and np.array_equal(old.logits([4, 5, 6], [2, 3]), expected)
    tensors["lm_head.weight"][3, 5] += 1
    safetensors.torch.save_file(tensors, path)
    other = rtfast.load(tmp_path / "old")
    assert not other.config.tie_embeddings
    assert np.flatnonzero(other.logits([4, 5, 6], [2, 3]) != expected).size <= 2


#: Names of the embeddings and of the output layer: shared, the encoder's, the decoder's, the layer.
ENDS = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")
TIED = [("bart", {}), ("bart", {"tie_word_embeddings": False}), ("m2m100", {"tie_word_embeddings": False}),
        ("marian", {}), ("marian", {"share_encoder_decoder_embeddings": False}),
        ("marian", {"share_encoder_decoder_embeddings": False, "tie_word_embeddings": False}), ("t5", {})]


def test_an_output_layer_like_the_source_s_embedding_is_kept_once(backend, tmp_path):
    """Where the target's differs: each number is in memory once all the same."""
    import safetensors.torch

    make("bart", SIZES[0], 3, tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    one = tensors.pop("model.shared.weight")
    ends = {"model.encoder.embed_tokens.weight": one, "model.decoder.embed_tokens.weight": torch.randn(one.shape),
            "lm_head.weight": one.clone()}
    safetensors.torch.save_file(tensors | ends, path, metadata={"format": "pt"})
    model, ours = transformers.BartForConditionalGeneration.from_pretrained(tmp_path).double(), rtfast.load(tmp_path)
    with torch.no_grad():
        expected = model(input_ids=torch.tensor([[5, 9, 4]]), decoder_input_ids=torch.tensor([[2, 7]]))
    close(ours.encode([5, 9, 4]), expected.encoder_last_hidden_state[0].numpy())
    close(ours.logits([5, 9, 4], [2, 7]), expected.logits[0].numpy())
    assert ours._packed._places["embedding.weight"][0] == ("output.weight",)
    assert np.array_equal(ours.weights["embedding.weight"], one.numpy())
    assert np.array_equal(ours.weights["decoder.embedding.weight"], ends["model.decoder.embed_tokens.weight"].numpy())
    ours.save(tmp_path / "again")
    assert np.array_equal(rtfast.load(tmp_path / "again").logits([5, 9, 4], [2, 7]), ours.logits([5, 9, 4], [2, 7]))


@pytest.mark.parametrize("name, fields", TIED, ids=str)
def test_ends_that_are_tied_or_not(tmp_path, name, fields):
    """Whichever of the four tensors a file holds, equal or not, whatever its config says: what transformers takes."""
    import safetensors.torch

    make(name, SIZES[0], 0, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**json.loads((tmp_path / "config.json").read_text()), **fields}))
    tensors = safetensors.torch.load_file(tmp_path / "model.safetensors")
    shared = next(key for key in tensors if key.endswith("shared.weight"))
    prefix, one = shared.removesuffix("shared.weight"), tensors.pop(shared)
    names = [end if end == "lm_head.weight" else prefix + end for end in ENDS]
    # The same matrix in each place, another one, or none.
    kept = 0
    for held in itertools.product(("same", "other", None), repeat=4):
        torch.manual_seed(1)
        ends = {end: one.clone() if kind == "same" else torch.randn(one.shape)
                for end, kind in zip(names, held, strict=True) if kind}
        safetensors.torch.save_file(tensors | ends, tmp_path / "model.safetensors", metadata={"format": "pt"})
        model, info = transformers.AutoModelForSeq2SeqLM.from_pretrained(
            tmp_path, dtype=torch.float64, output_loading_info=True)
        if info["missing_keys"]:
            continue  # random in transformers
        kept += 1
        ours = rtfast.load(tmp_path)
        with torch.no_grad():
            expected = model(input_ids=torch.tensor([[5, 9, 4]]), decoder_input_ids=torch.tensor([[2, 7]]))
        close(ours.encode([5, 9, 4]), expected.encoder_last_hidden_state[0].numpy())
        close(ours.logits([5, 9, 4], [2, 7]), expected.logits[0].numpy())
        if "other" not in held:  # in memory once
            assert ours.config.tie_embeddings and ours.config.target_vocab_size is None
    assert kept >= 16


def test_positions_that_a_file_holds(backend, tmp_path):
    """Marian's older files have tables of positions: transformers reads them, rounded or trained as they may be."""
    import safetensors.torch

    make("marian", SIZES[0], 1, tmp_path)
    path, sides = tmp_path / "model.safetensors", ("encoder", "decoder")
    tensors = safetensors.torch.load_file(path)
    for side in sides:
        tensors[f"model.{side}.embed_positions.weight"] = torch.randn(97, 40)
    safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})
    model = transformers.MarianMTModel.from_pretrained(tmp_path, dtype=torch.float64)
    ours, (source, target) = rtfast.load(tmp_path), torch.randint(3, 61, (2, 1, 97))
    with torch.no_grad():
        expected = model(input_ids=source, decoder_input_ids=target)
    close(ours.encode(source.numpy()), expected.encoder_last_hidden_state.numpy())
    close(ours.logits(source.numpy(), target.numpy()), expected.logits.numpy())
    for side in sides:
        safetensors.torch.save_file({name: value for name, value in tensors.items()
                                     if name != f"model.{side}.embed_positions.weight"}, path)
        with pytest.raises(rtfast.CheckpointError, match="config.json: embed_positions.weight must be there for both"):
            rtfast.load(tmp_path)


def test_many_names_that_end_alike_are_refused_at_once(folder, tmp_path):
    """They were compared each with each: 1,200 in half a minute."""
    import safetensors.numpy

    copy(folder, tmp_path / "copy")
    (tmp_path / "copy" / "model.safetensors").unlink()
    tensors = {f"{i}.shared.weight": np.array([[i]], np.float32) for i in range(1200)}
    safetensors.numpy.save_file(tensors, tmp_path / "copy" / "model.safetensors")
    begun = time.perf_counter()
    with pytest.raises(rtfast.CheckpointError, match="is missing"):
        rtfast.load(tmp_path / "copy")
    assert time.perf_counter() - begun < 5


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", "x.bin", 3])
def test_a_shard_outside_the_folder(folder, tmp_path, name):
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(rtfast.CheckpointError, match="a shard must be a .safetensors file of this folder"):
        rtfast.load(tmp_path)


def test_an_index_without_a_map(folder, tmp_path):
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    for index in ("[]", "{}", '{"weight_map": []}', '{"weight_map": {}}'):
        (tmp_path / "model.safetensors.index.json").write_text(index)
        with pytest.raises(rtfast.CheckpointError, match="weight_map must be an object"):
            rtfast.load(tmp_path)


@pytest.mark.parametrize("fields, message", [
    ({"d_model": None}, "d_model is missing"),
    ({"d_model": "40"}, "d_model must be an integer"),
    ({"d_model": 0}, "d_model must be within"),
    ({"d_model": -4}, "d_model must be within"),
    ({"encoder_attention_heads": 0, "decoder_attention_heads": 0}, "n_heads must be within"),
    ({"decoder_ffn_dim": 7}, "encoder_ffn_dim and decoder_ffn_dim must be equal, got 50 and 7"),
    ({"activation_function": ["tanh"] * 1000}, "activation must be one of .* got .'tanh', .{70,100}$"),
    ({"activation_function": "tanh"}, "activation must be one of .* got 'tanh'"),
    ({"model_type": "gpt2"}, "model_type must be 'rtfast-transformer' or one of 'marian'"),
    ({"vocab_size": 62}, r"embedding.weight is \(61, 40\), must be \(62, 40\)"),
    ({"encoder_layers": 3}, "tensor 'model.encoder.layers.2.self_attn.q_proj.weight' is missing"),
    ({"encoder_layers": 1}, "16 tensors that this family does not have: 'model.encoder.layers.1.fc1.bias'"),
])
def test_a_config_that_does_not_fit(folder, tmp_path, fields, message):
    with pytest.raises(rtfast.CheckpointError, match=message):
        rtfast.load(copy(folder, tmp_path / "copy", **fields))


def test_options_of_config_json_that_do_nothing_here(folder, tmp_path):
    """An older folder has its options there, and the warning names that file."""
    with pytest.warns(RuntimeWarning, match="of its config.json do nothing here: encoder_no_repeat_ngram_size$"):
        rtfast.load(copy(folder, tmp_path / "copy", encoder_no_repeat_ngram_size=2, begin_suppress_tokens=[]))


def test_pickles_are_refused(folder, tmp_path):
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    (tmp_path / "pytorch_model.bin").write_bytes(b"not read")
    with pytest.raises(rtfast.CheckpointError, match="pickle file can run code .* convert it once"):
        rtfast.load(tmp_path)


def test_folders_may_be_paths(folder):
    assert isinstance(rtfast.load(pathlib.Path(folder)), rtfast.Transformer)
