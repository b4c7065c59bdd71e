"""From the latent space to results: domains, imputation, metrics, markers, export."""
