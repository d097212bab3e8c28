"""From samples to normalised features: filterbanks and cepstra, mean and variance normalisation, augmentation."""
