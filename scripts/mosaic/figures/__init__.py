"""What is drawn, and nothing that computes."""
