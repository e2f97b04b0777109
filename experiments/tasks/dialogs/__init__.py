"""What the dialog task is made of: words, grammar, and the reward of a reply."""
