"""ONNX Runtime's own static quantization beside ours: what bench/techniques.py has of it."""
import math

import numpy as np


def percent(share, digits=2):
    return f"{100 * share:.{digits}f} %"


class OnnxRuntime:
    """ONNX Runtime's own static quantization of a model."""

    def __init__(self, model):
        import onnx
        from onnxruntime.quantization.shape_inference import quant_pre_process
        self.model = model
        proto = onnx.load(str(model.path))
        names = {i.name for i in proto.graph.initializer}
        entry = next(v for v in proto.graph.input if v.name not in names)
        self.name = entry.name
        self.dims = [d.dim_value for d in entry.type.tensor_type.shape.dim]
        self.batch = self.dims[0] if self.dims and self.dims[0] > 0 else 50
        self.prepared = model.folder / "prepared.onnx"
        try:
            quant_pre_process(str(model.path), str(self.prepared), skip_symbolic_shape=True)
        except Exception:  # its shape inference refuses some files; quantize_static takes them as they are
            self.prepared = model.path

    def shaped(self, x):
        return x.reshape([len(x)] + self.dims[1:]) if all(d > 0 for d in self.dims[1:]) else x

    def quantized(self, method, per_channel):
        from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
        x = self.shaped(self.model.inputs(dict(np.load(self.model.data / "calibration.npz"))))
        parts = iter([x[i:i + self.batch] for i in range(0, len(x) - self.batch + 1, self.batch)])
        name = self.name

        class Reader(CalibrationDataReader):
            def get_next(self):
                part = next(parts, None)
                return None if part is None else {name: part}

        out = self.model.own("ort.onnx")
        quantize_static(str(self.prepared), str(out), Reader(), quant_format=QuantFormat.QDQ, per_channel=per_channel,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                        calibrate_method=getattr(CalibrationMethod, method))
        return out

    def outputs(self, path):
        import onnxruntime as ort
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        x = self.shaped(self.model.inputs(self.model.viewed))
        out = []
        for begin in range(0, len(x), self.batch):
            part = x[begin:begin + self.batch]
            short = self.batch - len(part)
            if short:
                part = np.concatenate([part, np.repeat(part[-1:], short, 0)])
            out.append(session.run(None, {self.name: part})[0].reshape(self.batch, -1)[:self.batch - short])
        return np.concatenate(out)


def sqnr_db(exact, got):
    noise = float(((exact.astype(float) - got) ** 2).sum())
    return 10 * math.log10(float((exact.astype(float) ** 2).sum()) / noise) if noise > 0 else math.inf


def compare(exact, theirs, ours, mended, y, views):
    """Accuracies on the samples; differences from ONNX Runtime's in points with their 95 % intervals, sample
    by sample, on the samples and on all views of them; and signal to noise against the f32 outputs, which no
    luck with labels moves."""
    samples = len(y) // views
    hits = {name: (out.argmax(1) == y).astype(float).reshape(views, samples)
            for name, out in (("theirs", theirs), ("ours", ours), ("mended", mended))}
    got = {name: float(hit[0].mean()) for name, hit in hits.items()}
    for name in ("ours", "mended"):
        for where, difference in (("", hits[name][0] - hits["theirs"][0]), ("_views", (hits[name] - hits["theirs"]).mean(0))):
            got[f"{name}_difference{where}"] = float(difference.mean())
            got[f"{name}_half_interval{where}"] = float(1.96 * difference.std() / math.sqrt(samples))
    got.update(views=views, **{f"{name}_db": sqnr_db(exact[:samples], out[:samples])
                              for name, out in (("theirs", theirs), ("ours", ours), ("mended", mended))})
    return got


def beside_onnxruntime(model, theirs, method, per_channel, plan):
    ours = model.outputs(plan)
    if isinstance(ours, str):
        return {"refused": ours}
    mended = model.outputs(fitted(plan))
    if isinstance(mended, str):
        return {"refused": mended}
    y = model.viewed["y"]
    try:
        path = theirs.quantized(method, per_channel)
    except Exception as error:  # it fails on some models: what it says stands in the table
        samples = len(y) // model.views
        return {"ours": float((ours.argmax(1) == y)[:samples].mean()), "mended": float((mended.argmax(1) == y)[:samples].mean()),
                "theirs_refused": f"{type(error).__name__}: {str(error)[:60]}"}
    return compare(model.exact(), theirs.outputs(path), ours, mended, y, model.views)


def fitted(plan):
    """The same plan with adaptive rounding and reconstruction, from the same calibration samples."""
    return {"global": {**plan["global"], "recovery": "reconstruct"},
            "layers": {"*": {**plan["layers"]["*"], "rounding": "adaptive"}}}


def static_tables(static):
    """The rows beside ONNX Runtime's: on the samples, and where there are views, on these."""
    if not static:
        return []
    lines = ["| static quantization | ONNX Runtime | kerf | fitted | kerf − ORT, points | fitted − ORT, points "
             "| SQNR, dB: ONNX Runtime | kerf | fitted |",
             "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]

    def difference(got, name, where=""):
        middle, half = (100 * got[f"{name}_{what}{where}"] for what in ("difference", "half_interval"))
        return f"{middle:+.2f} ({middle - half:+.2f} … {middle + half:+.2f})"

    for row, got in static.items():
        if "refused" in got:
            lines.append(f"| {row} | | refused: {got['refused']} | | | | | | |")
        elif "theirs_refused" in got:
            lines.append(f"| {row} | fails ({got['theirs_refused']}) | {percent(got['ours'])} | {percent(got['mended'])} | | | | | |")
        else:
            lines.append(f"| {row} | {percent(got['theirs'])} | {percent(got['ours'])} | {percent(got['mended'])} | "
                         f"{difference(got, 'ours')} | {difference(got, 'mended')} | {got['theirs_db']:.1f} | {got['ours_db']:.1f} | {got['mended_db']:.1f} |")
    lines.append("")
    viewed = {row: got for row, got in static.items() if got.get("views", 1) > 1}
    if viewed:
        lines += [f"| on {next(iter(viewed.values()))['views']} views of each picture | kerf − ORT, points | fitted − ORT, points |",
                  "| --- | ---: | ---: |"]
        lines += [f"| {row} | {difference(got, 'ours', '_views')} | {difference(got, 'mended', '_views')} |" for row, got in viewed.items()]
        lines.append("")
    return lines
