"""ONNX Runtime's side of compare.py: same protocol as kerf_peer.cc. Its wheel has no C++ headers, so
a run is one call of the Python extension with bound inputs and outputs.

usage: onnxruntime_peer.py MODEL BATCH THREADS INPUT OUTPUT
"""
import sys
import time

import numpy as np
import onnxruntime as ort


def load_inputs(shapes, path):
    raw, arrays, at = open(path, "rb").read(), [], 0
    for shape in shapes:
        count = int(np.prod(shape))
        arrays.append(np.frombuffer(raw, np.float32, count, at).reshape(shape).copy())
        at += 4 * count
    return arrays


def prepare(model, batch, threads, path):
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    inputs = session.get_inputs()
    arrays = load_inputs([[batch] + list(i.shape[1:]) for i in inputs], path)
    binding = session.io_binding()
    for info, array in zip(inputs, arrays):
        binding.bind_ortvalue_input(info.name, ort.OrtValue.ortvalue_from_numpy(array))
    for output, array in zip(session.get_outputs(), session.run(None, {i.name: a for i, a in zip(inputs, arrays)})):
        binding.bind_ortvalue_output(output.name, ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array)))
    inner, bound, run_options = session._sess, binding._iobinding, None

    def run():
        inner.run_with_iobinding(bound, run_options)
    return run, lambda: [v.numpy() for v in binding.get_outputs()]


def main():
    model, batch, threads, source, target = sys.argv[1:]
    run, results = prepare(model, int(batch), int(threads), source)
    run()
    with open(target, "wb") as file:
        for array in results():
            file.write(np.ascontiguousarray(array, np.float32).tobytes())
    print("ready", flush=True)
    clock = time.perf_counter_ns
    for line in sys.stdin:
        runs = int(line)
        if runs <= 0:
            break
        run()
        steps = range(runs)
        start = clock()
        for _ in steps:
            run()
        print(f"{(clock() - start) / 1000 / runs:.4f}", flush=True)


main()
