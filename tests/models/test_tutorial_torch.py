"""The tutorial's networks against PyTorch with the same weights, where PyTorch is installed."""

import jax
import numpy as np
import pytest

from jaxlessons.models.inception import TutorialInceptionNet
from jaxlessons.models.residual import TutorialResidualNet

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional

BRANCHES = {  # ours -> (inputs or None for the module's, outputs, size)
    "branch1x1_1": (None, 16, 1),
    "branch5x5_1": (None, 16, 1),
    "branch5x5_2": (16, 24, 5),
    "branch3x3_1": (None, 16, 1),
    "branch3x3_2": (16, 24, 3),
    "branch3x3_3": (24, 24, 3),
    "branch_pool1": (None, 24, 1),
}


class Inception(nn.Module):
    def __init__(self, inputs):
        super().__init__()
        for name, (before, outputs, size) in BRANCHES.items():
            self.add_module(name, nn.Conv2d(before or inputs, outputs, size, padding=size // 2))

    def forward(self, x):
        pooled = F.avg_pool2d(x, kernel_size=3, stride=1, padding=1)
        three = self.branch3x3_3(self.branch3x3_2(self.branch3x3_1(x)))
        five = self.branch5x5_2(self.branch5x5_1(x))
        return torch.cat([self.branch1x1_1(x), five, three, self.branch_pool1(pooled)], 1)


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.layer1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.layer2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return F.relu(x + self.layer2(F.relu(self.layer1(x))))


class Net(nn.Module):
    def __init__(self, block, name, widths, between, features):
        super().__init__()
        self.conv1 = nn.Conv2d(1, widths[0], 5)
        self.conv2 = nn.Conv2d(between, widths[1], 5)
        self.add_module(f"{name}1", block(widths[0]))
        self.add_module(f"{name}2", block(widths[1]))
        self.out = nn.Linear(features, 10)
        self.blocks = [getattr(self, f"{name}{i}") for i in (1, 2)]

    def forward(self, x):
        x = self.blocks[0](F.relu(F.max_pool2d(self.conv1(x), 2)))
        x = self.blocks[1](F.relu(F.max_pool2d(self.conv2(x), 2)))
        return self.out(x.flatten(1))


def converted(net):
    """PyTorch's parameters by our names; the features are flattened in another order."""
    params = {}
    for name, module in net.named_modules():
        if not isinstance(module, nn.Conv2d | nn.Linear):
            continue
        kernel, bias = module.weight.detach().numpy(), module.bias.detach().numpy()
        if isinstance(module, nn.Conv2d):
            kernel = kernel.transpose(2, 3, 1, 0)
        else:
            kernel = kernel.reshape(10, -1, 4, 4).transpose(2, 3, 1, 0).reshape(-1, 10)
        *outer, inner = name.split(".")
        tree = params
        for part in [*outer, inner, *(["conv"] if outer else [])]:
            tree = tree.setdefault(part, {})
        tree |= {"kernel": kernel, "bias": bias}
    return params


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (TutorialInceptionNet(), (Inception, "incept", (10, 20), 88, 1408)),
        (TutorialResidualNet(), (Residual, "rblock", (16, 32), 16, 512)),
    ],
    ids=["inception", "residual"],
)
def test_logits_and_gradients_are_torchs(ours, theirs):
    torch.manual_seed(0)
    net = Net(*theirs)
    images = torch.randn(3, 1, 28, 28)
    weight = torch.randn(3, 10)
    expected = net(images)
    (expected * weight).sum().backward()

    @jax.jit
    def run(params, x):
        def objective(params):
            logits = ours.apply({"params": params}, x)
            return (logits * weight.numpy()).sum(), logits

        return jax.grad(objective, has_aux=True)(params)

    grads, logits = run(converted(net), images.permute(0, 2, 3, 1).numpy())
    np.testing.assert_allclose(logits, expected.detach().numpy(), rtol=1e-4, atol=1e-5)
    for module in net.modules():
        for parameter in module.parameters(recurse=False):
            parameter.data = parameter.grad
    for (path, wanted), found in zip(
        jax.tree_util.tree_leaves_with_path(converted(net)), jax.tree.leaves(grads), strict=True
    ):
        scale = np.abs(wanted).max()
        np.testing.assert_allclose(
            found, wanted, rtol=1e-3, atol=1e-4 * scale, err_msg=jax.tree_util.keystr(path)
        )
