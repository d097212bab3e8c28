"""Weight noise: its spread, its draw as a function of seed and step, and weights that come back to the bit."""

import pytest
import torch

from asr.training.noise import WeightNoise


@pytest.fixture
def model() -> torch.nn.Module:
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Linear(40, 60), torch.nn.LayerNorm(60), torch.nn.Linear(60, 5))


def copies(model: torch.nn.Module) -> list[torch.Tensor]:
    return [weight.detach().clone() for weight in model.parameters()]


def noise_of(model: torch.nn.Module, step: int, *, sigma: float = 0.075, seed: int = 1) -> torch.Tensor:
    before = copies(model)
    with WeightNoise(model, sigma=sigma, seed=seed).added(step):
        return torch.cat([(noisy - clean).flatten() for noisy, clean in zip(copies(model), before)])


def test_the_noise_is_gaussian_with_the_given_sigma_on_every_weight(model):
    drawn = noise_of(model, 0, sigma=0.075).double()
    assert (drawn != 0).all()
    assert drawn.std().item() == pytest.approx(0.075, rel=0.05)
    assert drawn.mean().item() == pytest.approx(0.0, abs=0.005)
    assert (drawn.abs() < 0.075).double().mean().item() == pytest.approx(0.6827, abs=0.03)


def test_the_draw_is_a_function_of_seed_and_step_and_leaves_other_draws_alone(model):
    torch.manual_seed(7)
    plain = torch.rand(3)
    torch.manual_seed(7)
    first = noise_of(model, 5)
    assert torch.equal(torch.rand(3), plain)
    assert torch.equal(noise_of(model, 5), first)
    assert not torch.equal(noise_of(model, 6), first)
    assert not torch.equal(noise_of(model, 5, seed=2), first)


def test_the_gradient_is_taken_at_the_noisy_weights_which_come_back_to_the_bit(model):
    before = copies(model)
    x = torch.randn(8, 40)
    with WeightNoise(model, sigma=0.3, seed=1).added(2):
        noisy = copies(model)
        model(x).square().mean().backward()
    found = [weight.grad.clone() for weight in model.parameters()]
    assert all(torch.equal(after, old) for after, old in zip(copies(model), before))
    with torch.no_grad():
        for weight, value in zip(model.parameters(), noisy):
            weight.copy_(value)
    model.zero_grad()
    model(x).square().mean().backward()
    assert all(torch.equal(grad, weight.grad) for grad, weight in zip(found, model.parameters()))


def test_weights_come_back_after_a_failure(model):
    before = copies(model)
    with pytest.raises(RuntimeError), WeightNoise(model, sigma=0.3, seed=1).added(2):
        raise RuntimeError
    assert all(torch.equal(after, old) for after, old in zip(copies(model), before))


def test_without_sigma_and_for_frozen_weights_nothing_happens(model):
    assert not noise_of(model, 0, sigma=0.0).any()
    model[0].requires_grad_(False)
    frozen = sum(weight.numel() for weight in model[0].parameters())
    drawn = noise_of(model, 0)
    assert not drawn[:frozen].any()
    assert (drawn[frozen:] != 0).all()
