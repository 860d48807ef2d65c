"""What is asked: plain data about a call, its weights and its form. Computes nothing."""
