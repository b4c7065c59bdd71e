"""From the users' files to features of each modality."""
