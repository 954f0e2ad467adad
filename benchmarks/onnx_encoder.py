"""The base encoder as an ONNX graph with a model's weights, for ONNX Runtime.

Two forms: of standard operators, and with the runtime's own fused ones (attention of all heads, residual and
layer norm), as its transformer optimiser makes it. Whichever is faster is the peer at its best.
"""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper


def sessions(model, threads):
    """name -> function of x (B, T, d_model) that runs the encoder's layers in ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    found = {}
    for name, fused in (("ONNX Runtime", False), ("ONNX RT fused", True)):
        graph = encoder(model, fused).SerializeToString()
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        found[name] = lambda x, session=session: session.run(None, {"x": x})[0]
    return found


def encoder(model, fused):
    """A ModelProto: x (B, T, d_model) -> states (B, T, d_model)."""
    c, nodes, constants = model.config, [], []

    def constant(name, array):
        constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(kind, inputs, output, **attributes):
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def project(x, name, output):
        y = add("MatMul", [x, constant(f"{name}.weight", model.weights[f"{name}.weight"])], f"{output}.product")
        bias = model.weights.get(f"{name}.bias")
        return y if bias is None else add("Add", [y, constant(f"{name}.bias", bias)], output)

    def add_norm(x, y, name):
        gamma, beta = (constant(f"{name}.{part}", model.weights[f"{name}.{part}"]) for part in ("gamma", "beta"))
        if fused:
            return add("SkipLayerNormalization", [x, y, gamma, beta], name, domain="com.microsoft",
                       epsilon=c.layer_norm_eps)
        total = add("Add", [x, y], f"{name}.sum")
        return add("LayerNormalization", [total, gamma, beta], name, axis=-1, epsilon=c.layer_norm_eps)

    def attend(query, key, value, name):
        if fused:
            return add("MultiHeadAttention", [query, key, value], name, domain="com.microsoft", num_heads=c.n_heads)
        query, key, value = (
            add("Transpose", [add("Reshape", [part, shape], f"{part}.heads")], f"{part}.split", perm=order)
            for part, order in ((query, [0, 2, 1, 3]), (key, [0, 2, 3, 1]), (value, [0, 2, 1, 3])))
        scores = add("Mul", [add("MatMul", [query, key], f"{name}.scores"), scale], f"{name}.scaled")
        weights = add("Softmax", [scores], f"{name}.weights", axis=-1)
        heads = add("Transpose", [add("MatMul", [weights, value], f"{name}.heads")], f"{name}.joined",
                    perm=[0, 2, 1, 3])
        return add("Reshape", [heads, joined], name)

    shape = constant("shape", np.array([0, 0, c.n_heads, c.d_key], np.int64))
    joined = constant("joined", np.array([0, 0, c.n_heads * c.d_value], np.int64))
    scale = constant("scale", np.float32(c.d_key ** -0.5))
    x = "x"
    for i in range(c.n_encoder_layers):
        layer = f"encoder.layers.{i}"
        parts = [project(x, f"{layer}.self_attention.{part}", f"{layer}.{part}") for part in ("query", "key", "value")]
        heads = attend(*parts, f"{layer}.attention")
        y = project(heads, f"{layer}.self_attention.output", f"{layer}.projected")
        x = add_norm(x, y, f"{layer}.self_attention.norm")
        hidden = add("Relu", [project(x, f"{layer}.feed_forward.hidden", f"{layer}.hidden")], f"{layer}.relu")
        y = project(hidden, f"{layer}.feed_forward.output", f"{layer}.output")
        x = add_norm(x, y, f"{layer}.feed_forward.norm")
    rows = ["batch", "length", c.d_model]
    graph = helper.make_graph(nodes, "encoder", [helper.make_tensor_value_info("x", TensorProto.FLOAT, rows)],
                              [helper.make_tensor_value_info(x, TensorProto.FLOAT, rows)], constants)
    versions = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    made = helper.make_model(graph, opset_imports=versions)
    made.ir_version = 8
    onnx.checker.check_model(made, full_check=not fused)
    return made
