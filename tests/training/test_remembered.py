"""What a training looks up once behaves as what it is looked up from."""

import torch

from hidden_rule.training.remembered import remembered_parts


def network() -> torch.nn.Sequential:
    return torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Dropout(0.5), torch.nn.Linear(3, 1))


def test_weights_are_those_of_the_model_and_can_be_cleared():
    model = network()
    expected = list(model.parameters())
    with remembered_parts(model):
        assert all(found is weight for found, weight in zip(model.parameters(), expected, strict=True))
        assert not list(model.parameters(recurse=False))  # a container has none of its own
        model(torch.ones(1, 2)).sum().backward()
        model.zero_grad()
        assert all(weight.grad is None for weight in expected)


def test_a_module_that_left_training_mode_comes_back():
    """Though the model itself never left it: an inner one alone was put in evaluation mode."""
    model = network()
    with remembered_parts(model):
        model[1].eval()
        assert model.train() is model and model[1].training
        model.eval()
        assert not any(module.training for module in model.modules())
        assert model.train().training and model[1].training


def test_the_model_is_left_as_it_was():
    model = network()
    with remembered_parts(model):
        assert "train" in vars(model)
    assert not {"train", "parameters"} & vars(model).keys()
