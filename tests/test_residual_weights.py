"""torchvision's ResNets out of their state dicts."""

import re

import jax
import numpy as np
import pytest

from jaxlessons import weights
from jaxlessons.errors import UserError
from jaxlessons.models.residual import ResNet18, ResNet34

NARROW = {"layers": (4, 8, 12, 16), "blocks": (2, 1, 2, 1), "num_classes": 5}
WANTED = "give the state dict of a torchvision ResNet, whose names begin with conv1 and layer1"
BOTTLENECK = {"layers": (8, 16), "blocks": (1, 2), "num_classes": 5, "bottleneck": True}


def state_dict(layers, blocks, num_classes, bottleneck=False, seed=0):
    """What torchvision would have, by its names: nothing of it neutral, in order."""
    random, found = np.random.RandomState(seed), {}

    def conv(name, outputs, inputs, size):
        kernel = random.normal(size=(outputs, inputs, size, size)) / size / inputs**0.5
        found[f"{name}.weight"] = kernel.astype(np.float32)

    def bn(name, count):
        found[f"{name}.weight"] = random.uniform(0.5, 1.5, count).astype(np.float32)
        found[f"{name}.bias"] = random.normal(size=count).astype(np.float32) / 5
        found[f"{name}.running_mean"] = random.normal(size=count).astype(np.float32) / 5
        found[f"{name}.running_var"] = random.uniform(0.5, 2, count).astype(np.float32)
        found[f"{name}.num_batches_tracked"] = np.int64(7)

    inputs = layers[0] // 4 if bottleneck else layers[0]
    conv("conv1", inputs, 3, 7)
    bn("bn1", inputs)
    for stage, (outputs, count) in enumerate(zip(layers, blocks, strict=True), 1):
        for i in range(count):
            name = f"layer{stage}.{i}"
            inner = outputs // 4 if bottleneck else outputs
            sizes = [(inner, 1), (inner, 3), (outputs, 1)] if bottleneck else [(outputs, 3)] * 2
            before = inputs
            for part, (features, size) in enumerate(sizes, 1):
                conv(f"{name}.conv{part}", features, before, size)
                bn(f"{name}.bn{part}", features)
                before = features
            if inputs != outputs:
                conv(f"{name}.downsample.0", outputs, inputs, 1)
                bn(f"{name}.downsample.1", outputs)
            inputs = outputs
    found["fc.weight"] = random.normal(size=(num_classes, inputs)).astype(np.float32) / 4
    found["fc.bias"] = random.normal(size=num_classes).astype(np.float32)
    return found


def reference(found, images, stride_at):
    """The network by torchvision's names, in float64 and numpy; stride_at: the strided part."""

    def conv(x, name, stride):
        kernel = np.float64(found[f"{name}.weight"])
        pad = kernel.shape[2] // 2
        x = np.pad(x, [(0, 0), (0, 0), (pad, pad), (pad, pad)])
        windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[2:], axis=(2, 3))
        windows = windows[:, :, ::stride, ::stride]
        return np.einsum("bchwij,ocij->bohw", windows, kernel, optimize=True)

    def bn(x, name):
        scale, bias, mean, var = (
            np.float64(found[f"{name}.{leaf}"]).reshape(1, -1, 1, 1)
            for leaf in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(var + 1e-5) * scale + bias

    x = np.maximum(bn(conv(images, "conv1", 2), "bn1"), 0)
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)], constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    x = windows[:, :, ::2, ::2].max((-1, -2))
    for name in sorted({".".join(n.split(".")[:2]) for n in found if n.startswith("layer")}):
        stride = 2 if name.endswith(".0") and not name.startswith("layer1") else 1
        parts = sum(f"{name}.conv{i}.weight" in found for i in (1, 2, 3))
        y = x
        for part in range(1, parts + 1):
            y = bn(
                conv(y, f"{name}.conv{part}", stride if part == stride_at else 1),
                f"{name}.bn{part}",
            )
            y = np.maximum(y, 0) if part < parts else y
        if f"{name}.downsample.0.weight" in found:
            x = bn(conv(x, f"{name}.downsample.0", stride), f"{name}.downsample.1")
        x = np.maximum(x + y, 0)
    return x.mean((2, 3)) @ np.float64(found["fc.weight"]).T + found["fc.bias"]


@pytest.mark.parametrize(("settings", "stride_at"), [(NARROW, 1), (BOTTLENECK, 2)])
@pytest.mark.parametrize("side", [32, 37])
def test_outputs_are_those_of_the_state_dicts_network(settings, stride_at, side):
    found = state_dict(**settings)
    assert weights.resnet_settings(found) == {"bottleneck": False} | settings
    variables = weights.resnet_from_torch(found)
    images = np.random.RandomState(1).normal(size=(2, side, side, 3)).astype(np.float32)
    images[1] = 3 * images[1, ::-1] + 1  # noise looks alike to a network that was never trained
    network = ResNet18(**weights.resnet_settings(found))
    logits = jax.jit(network.apply)(variables, images)
    expected = reference(found, images.transpose(0, 3, 1, 2), stride_at)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    assert np.ptp(expected, axis=0).max() > 0.1  # else all images would have the same


@pytest.mark.slow
@pytest.mark.parametrize("network", [ResNet18(), ResNet34()], ids=["18", "34"])
def test_torchvisions_own_sizes_are_those_of_the_networks(network):
    found = {
        # Zero strides: 11 and 21 million numbers would take a while.
        name: np.broadcast_to(array.ravel()[:1].reshape((1,) * array.ndim), array.shape)
        for name, array in state_dict(network.layers, network.blocks, 1000).items()
        if not name.endswith("num_batches_tracked")
    }
    variables = weights.resnet_from_torch(found)
    wanted = jax.eval_shape(network.init, jax.random.key(0), np.zeros((1, 64, 64, 3), np.float32))
    assert jax.tree.map(np.shape, variables) == jax.tree.map(np.shape, wanted)


def without(name):
    return lambda found: found.pop(name)


def put(name, value):
    return lambda found: found.update({name: value})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (without("conv1.weight"), "The state dict lacks conv1.weight."),
        (without("fc.weight"), "The state dict lacks fc.weight."),
        (without("fc.bias"), "The state dict lacks fc.bias."),
        (without("bn1.running_var"), "The state dict lacks bn1.running_var."),
        (without("layer3.1.conv2.weight"), "The state dict lacks layer3.1.conv2.weight."),
        (without("layer3.0.conv1.weight"), "The state dict lacks layer3.0.conv1.weight."),
        (
            without("layer2.0.downsample.0.weight"),
            "The state dict lacks layer2.0.downsample.0.weight.",
        ),
        (
            put("layer9.9999.conv1.weight", np.zeros(3)),
            "The state dict lacks layer5.0.conv1.weight.",
        ),
        (
            put("layer1.0.se.weight", np.zeros(3)),
            "The state dict has 'layer1.0.se.weight', which no ResNet of its kind has.",
        ),
        (
            put("layer1.0.downsample.0.weight", np.zeros((4, 4, 1, 1))),
            "The state dict has 'layer1.0.downsample.0.weight', which no ResNet of its kind has.",
        ),
        (
            put("layer2.0.conv2.weight", np.zeros((8, 4, 3, 3))),
            "The state dict's layer2.0.conv2.weight is [8, 4, 3, 3]: beside its other weights it "
            "must be [8, 8, 3, 3].",
        ),
        (
            put("conv1.weight", np.zeros((4, 3, 3, 3))),
            "The state dict's conv1.weight is [4, 3, 3, 3]: beside its other weights it must be "
            "[4, 3, 7, 7].",
        ),
        (
            put("fc.weight", np.zeros((5, 12))),
            "The state dict's fc.weight is [5, 12]: beside its other weights it must be [5, 16].",
        ),
        (
            put("fc.weight", np.zeros(5)),
            "The state dict's fc.weight is [5]: it must have 2 sides, none of them 0.",
        ),
        (
            put("layer1.0.conv1.weight", np.zeros((0, 4, 3, 3))),
            "The state dict's layer1.0.conv1.weight is [0, 4, 3, 3]: it must have 4 sides, none of "
            "them 0.",
        ),
        (
            put("bn1.bias", np.full(4, np.nan)),
            "The state dict's bn1.bias holds a value that is not finite in float32.",
        ),
        (put("bn1.bias", "text"), "The state dict's bn1.bias is no array of numbers"),
        (
            put("bn1.running_var", np.float32([1, 0, -1e-6, 1])),
            "The state dict's bn1.running_var holds a variance below 0.",
        ),
        (
            put("layer1.0.bn2.running_var", np.full(4, -np.inf)),
            "The state dict's layer1.0.bn2.running_var holds a value that is not finite",
        ),
        *(
            (
                put(name, np.int64(3)),
                f"The state dict has {name!r}, which no ResNet of its kind has.",
            )
            for name in (
                "num_batches_tracked",
                "layer1.0.num_batches_tracked",
                "layer1.0.conv1.num_batches_tracked",
                "layer9.bn1.num_batches_tracked",
            )
        ),
        (dict.clear, f"The state dict has nothing: {WANTED}."),
        (put(3, np.zeros(3)), f"The state dict has the name 3, which is no string: {WANTED}."),
    ],
)
def test_what_does_not_fit_is_told_in_a_sentence(change, sentence):
    found = state_dict(**NARROW)
    change(found)
    with pytest.raises(UserError, match=f"^{re.escape(sentence)}"):
        weights.resnet_from_torch(found)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda found: {f"module.{name}": value for name, value in found.items()},
            "has 'module.conv1.weight', 'module.bn1.weight', 'module.bn1.bias'",
        ),
        (lambda found: {"epoch": 3, "state_dict": found}, "has 'epoch', 'state_dict'"),
        (lambda found: list(found.items()), "is of type list"),
        (lambda found: "resnet18.pth", "is of type str"),
        (lambda found: None, "is of type NoneType"),
    ],
)
def test_what_is_no_resnets_state_dict_is_told_what_would_be(change, says):
    for read in (weights.resnet_from_torch, weights.resnet_settings):
        with pytest.raises(UserError) as told:
            read(change(state_dict(**NARROW)))
        assert told.value.args == (f"The state dict {says}: {WANTED}.",)


def test_outputs_are_torchs():
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Basic(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(outputs)
            self.downsample = None
            if stride > 1 or inputs != outputs:
                shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
                self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))

        def forward(self, x):
            y = torch.relu(self.bn1(self.conv1(x)))
            y = self.bn2(self.conv2(y))
            return torch.relu((x if self.downsample is None else self.downsample(x)) + y)

    class Net(nn.Module):
        def __init__(self, widths=(64, 128, 256, 512), blocks=(2, 2, 2, 2), classes=1000):
            super().__init__()
            self.conv1 = nn.Conv2d(3, widths[0], 7, 2, 3, bias=False)
            self.bn1 = nn.BatchNorm2d(widths[0])
            inputs = widths[0]
            for stage, (width, count) in enumerate(zip(widths, blocks, strict=True), 1):
                made = []
                for i in range(count):
                    made.append(Basic(inputs, width, 2 if stage > 1 and i == 0 else 1))
                    inputs = width
                setattr(self, f"layer{stage}", nn.Sequential(*made))
            self.fc = nn.Linear(inputs, classes)

        def forward(self, x):
            x = torch.relu(self.bn1(self.conv1(x)))
            x = nn.functional.max_pool2d(x, 3, 2, 1)
            for stage in range(1, 5):
                x = getattr(self, f"layer{stage}")(x)
            return self.fc(x.mean((2, 3)))

    torch.manual_seed(0)
    net = Net()
    images = torch.randn(2, 3, 64, 64)
    net.train()
    with torch.no_grad():
        for _ in range(2):  # so that batch norm has statistics of its own
            net(images)
        expected = net.eval()(images).numpy()
    arrays = {name: value.numpy() for name, value in net.state_dict().items()}
    assert sum(p.numel() for p in net.parameters()) == 11_689_512
    variables = weights.resnet_from_torch(arrays)
    logits = jax.jit(ResNet18().apply)(variables, images.permute(0, 2, 3, 1).numpy())
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
