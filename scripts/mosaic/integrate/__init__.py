"""From features to the latent space: graphs, encoders, training."""
