"""A trainer of your own, without PyTorch: logistic regression in numpy, over HTTP. See docs/trainers.md.

python own_trainer.py digits.npz 9000    # x [n, …] and y [n]; for tasks whose model is one linear layer
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import safetensors.numpy

KIND = "digits-8x8"
samples = np.load(sys.argv[1])
x, y = samples["x"].reshape(len(samples["y"]), -1).astype(np.float32) / 16, samples["y"]
x, y, x_test, y_test = x[len(x) // 5 :], y[len(y) // 5 :], x[: len(x) // 5], y[: len(y) // 5]
rng = np.random.default_rng(0)


def loss_and_error(weight, bias, x, y):
    """Mean cross-entropy, its gradient by the logits [n, classes], and accuracy."""
    logits = x @ weight.T + bias
    chances = np.exp(logits - logits.max(1, keepdims=True))
    chances /= chances.sum(1, keepdims=True)
    rows = np.arange(len(y))
    loss, accuracy = -np.log(chances[rows, y] + 1e-9).mean(), (chances.argmax(1) == y).mean()
    chances[rows, y] -= 1
    return float(loss), chances / len(y), float(accuracy)


class Trainer(BaseHTTPRequestHandler):
    """What the agent asks."""

    def do_GET(self):
        """Answer GET /v1/describe."""
        kinds = {KIND: {"num_samples": len(x), "num_test": len(x_test)}}
        self.answer(json.dumps({"protocol": 1, "kinds": kinds}).encode())

    def do_POST(self):
        """Answer POST /v1/train and POST /v1/evaluate."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        model = safetensors.numpy.load(body)
        facts = json.loads(body[8 : 8 + int.from_bytes(body[:8], "little")])["__metadata__"]
        weight, bias = sorted((model[name].copy() for name in model), key=lambda tensor: -tensor.ndim)
        if self.path == "/v1/evaluate":
            loss, _, accuracy = loss_and_error(weight, bias, x_test, y_test)
            return self.answer(json.dumps({"loss": loss, "metric": accuracy, "num_samples": len(x_test)}).encode())
        num_steps, rate = int(facts["num_steps"]), float(facts["learning_rate"])
        losses = []
        for _ in range(num_steps):
            batch = rng.integers(0, len(x), int(facts["batch_size"]))
            loss, error, _ = loss_and_error(weight, bias, x[batch], y[batch])
            weight -= rate * error.T @ x[batch]
            bias -= rate * error.sum(0)
            losses.append(loss)
        said = {"loss": str(np.mean(losses)), "num_samples": str(num_steps * int(facts["batch_size"]))}
        trained = {name: weight if model[name].ndim == 2 else bias for name in model}
        return self.answer(safetensors.numpy.save(trained, said))

    def answer(self, body):
        """Send a reply."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


HTTPServer(("127.0.0.1", int(sys.argv[2])), Trainer).serve_forever()
